/** How long a provider that has begun may be silent, by the pace at which it was heard so far. */

/** Below this a busy machine, another request's prefill or a lost packet explain the silence. */
export const stallMinMs = 5_000;
/** Silences this many times as long as usual ones are no longer chance. */
const usualGapFactor = 20;
/** Some providers send in bursts: the pause between two is usual for them. */
const longestGapFactor = 4;
/** So many gaps make a pace. */
const gapsMin = 8;
/** Weight of the newest gap. */
const smoothing = 0.25;

export class StallBound {
  readonly #timeoutMaxMs: number;
  #gapMs: number | null;
  #longestMs = 0;
  #gaps = 0;
  #waitedMs = 0;
  #waitingSinceMs: number | null = null;

  /** @param usualTokensPerSecond of earlier answers of this provider; null: it has none */
  constructor(timeoutMaxMs: number, usualTokensPerSecond: number | null) {
    this.#timeoutMaxMs = timeoutMaxMs;
    this.#gapMs = usualTokensPerSecond === null ? null : 1000 / usualTokensPerSecond;
  }

  /** From now on the provider is waited for. */
  wait(nowMs: number): void {
    this.#waitingSinceMs = nowMs;
  }

  /** It was heard. */
  heard(nowMs: number): void {
    if (this.#waitingSinceMs === null) return;
    const gapMs = nowMs - this.#waitingSinceMs;
    this.#waitingSinceMs = null;
    this.#waitedMs += gapMs;
    this.#gapMs = this.#gapMs === null ? gapMs : this.#gapMs + smoothing * (gapMs - this.#gapMs);
    this.#longestMs = Math.max(this.#longestMs, gapMs);
    this.#gaps += 1;
  }

  /** Time in which it was waited for since its first token, the present wait included. */
  waitedMs(nowMs: number): number {
    return this.#waitedMs + (this.#waitingSinceMs === null ? 0 : nowMs - this.#waitingSinceMs);
  }

  get timeoutMs(): number {
    if (this.#gapMs === null || this.#gaps < gapsMin) return this.#timeoutMaxMs;
    const unusualMs = Math.max(usualGapFactor * this.#gapMs, longestGapFactor * this.#longestMs);
    return Math.min(this.#timeoutMaxMs, Math.max(stallMinMs, Math.ceil(unusualMs)));
  }
}
