/** What a provider's answers took, learned one answer at a time. Everything here was measured at the gateway. */

/** Weight of the newest observation. */
const smoothing = 0.25;
/** Prompt lengths must differ by about this many tokens before they say anything about the slope. */
const slopePriorTokens = 64;
/** Answers that the usual lateness is taken from. */
const ratiosMax = 64;
/** Fewer answers say nothing about their slowest twentieth. */
const ratiosMin = 16;
/** One stream may have met a bad moment: of its slowness so many times the usual counts. */
const slownessMax = 4;

export interface Observation {
  /** Sending to first token, without queue and network. */
  readonly ttftMs: number;
  readonly answerMs: number;
  readonly outputTokens: number;
  /** Prompt tokens that were not in the KV cache, and those of other prompts before it; absent: unknown. */
  readonly prefillTokens?: number;
  /** Share of the prompt that was expected in the KV cache and was there; absent: none was expected. */
  readonly cacheHit?: number;
  /** Measured time to first token, divided by what was predicted; absent: nothing was predicted. */
  readonly lateness?: number;
}

/** Smoothed times of answers; null when there was none yet. */
export class Pace {
  ttftMs: number | null = null;
  answerMs: number | null = null;
  tpotMs: number | null = null;
  /** Prompt length that `ttftMs` belongs to. */
  prefillTokens = 0;
  /** How much of what should be cached is; optimistic until known. */
  cacheShare = 1;
  #covariance = 0;
  #variance = 0;
  #ratios: number[] = [];
  #nextRatio = 0;

  get tokensPerSecond(): number | null {
    return this.tpotMs === null ? null : 1000 / this.tpotMs;
  }

  /** Milliseconds per prompt token; leans on `prior` until prompts of different length were seen. */
  prefillMsPerToken(prior: number): number {
    const weight = slopePriorTokens ** 2;
    return Math.max(0, (this.#covariance + weight * prior) / (this.#variance + weight));
  }

  /** How much later than predicted the slowest twentieth of the first tokens came; null: too few answers. */
  get latenessP95(): number | null {
    if (this.#ratios.length < ratiosMin) return null;
    const sorted = this.#ratios.toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length * 0.95)]!;
  }

  learn({ ttftMs, answerMs, outputTokens, prefillTokens, cacheHit, lateness }: Observation): void {
    this.#learnSlope(ttftMs, prefillTokens);
    this.ttftMs = blend(this.ttftMs, ttftMs);
    this.answerMs = blend(this.answerMs, answerMs);
    const decodeMs = answerMs - ttftMs;
    if (outputTokens > 1 && decodeMs > 0) this.tpotMs = blend(this.tpotMs, decodeMs / (outputTokens - 1));
    if (cacheHit !== undefined) this.cacheShare = blend(this.cacheShare, cacheHit);
    if (lateness !== undefined) this.learnLateness(lateness);
  }

  /** First token's time, divided by what was predicted; a lower bound when it never came. */
  learnLateness(lateness: number): void {
    this.#ratios[this.#nextRatio] = lateness;
    this.#nextRatio = (this.#nextRatio + 1) % ratiosMax;
  }

  /** A stream was taken away because of its pace, in milliseconds per token. */
  learnSlowness(msPerToken: number): void {
    const most = this.tpotMs === null ? msPerToken : slownessMax * this.tpotMs;
    this.tpotMs = blend(this.tpotMs, Math.min(msPerToken, most));
  }

  /** A line through recent (length, time) pairs: moments that fade (West 1979, with a constant weight). */
  #learnSlope(ttftMs: number, tokens: number | undefined): void {
    if (tokens === undefined) return;
    const isFirst = this.ttftMs === null;
    const dx = isFirst ? 0 : tokens - this.prefillTokens;
    const dy = isFirst ? 0 : ttftMs - this.ttftMs!;
    this.#covariance = (1 - smoothing) * (this.#covariance + smoothing * dx * dy);
    this.#variance = (1 - smoothing) * (this.#variance + smoothing * dx * dx);
    this.prefillTokens = isFirst ? tokens : this.prefillTokens + smoothing * dx;
  }
}

/** A stream beside others may take so many times as long per token as is usual: that is the load, not the provider. */
const loadFactorMax = 2;

/**
 * Delivered by promised pace, at most 1. Promised is what the router counted on when it chose: how fast this provider usually is.
 * @param usual before this answer is learnt
 */
export function paceShareOf({ tpotMs }: Pick<Pace, "tpotMs">, observation: Observation): number {
  const { answerMs, ttftMs, outputTokens } = observation;
  if (tpotMs === null || outputTokens < 2 || answerMs <= ttftMs) return 1;
  return Math.min(1, (loadFactorMax * tpotMs * (outputTokens - 1)) / (answerMs - ttftMs));
}

/** A smoothed value; the first observation counts whole. */
export function blend(old: number | null, next: number, weight: number = smoothing): number {
  return old === null ? next : old + weight * (next - old);
}
