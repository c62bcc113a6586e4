/** Who uses how much right now, so that one API key's flood does not keep the others out. */
import type { Clock } from "../../util/clock.ts";

/** Weight of the newest interval. */
const smoothing = 0.1;
/** Models whose pace is remembered; providers choose their names. */
const modelsMax = 1_000;
const retryAfterMaxSeconds = 60;
/** Until something is known. */
const retryAfterUnknownSeconds = 2;

/** Attempts that run, by owner, and how often one ends. */
export class FairShare {
  readonly #clock: Clock;
  readonly #running = new Map<string, number>();
  readonly #ends = new Map<string, { atMs: number; intervalMs: number | null }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  runningOf(owner: string): number {
    return this.#running.get(owner) ?? 0;
  }

  began(owner: string): void {
    this.#running.set(owner, this.runningOf(owner) + 1);
  }

  ended(owner: string, model: string): void {
    const left = this.runningOf(owner) - 1;
    if (left > 0) this.#running.set(owner, left);
    else this.#running.delete(owner);
    const nowMs = this.#clock.monotonicMs();
    const last = this.#ends.get(model);
    this.#ends.delete(model);
    const passedMs = last === undefined ? null : nowMs - last.atMs;
    const before = last?.intervalMs ?? null;
    const intervalMs =
      before === null || passedMs === null ? passedMs : before + smoothing * (passedMs - before);
    this.#ends.set(model, { atMs: nowMs, intervalMs });
    if (this.#ends.size > modelsMax) this.#ends.delete(this.#ends.keys().next().value!);
  }

  /** Whole seconds until `ahead` others have probably got their slots. */
  retryAfterSeconds(model: string, ahead: number): number {
    const intervalMs = this.#ends.get(model)?.intervalMs ?? null;
    if (intervalMs === null) return retryAfterUnknownSeconds;
    return Math.min(retryAfterMaxSeconds, Math.max(1, Math.ceil(((ahead + 1) * intervalMs) / 1000)));
  }
}
