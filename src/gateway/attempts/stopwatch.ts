import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";

/** Measures one request or attempt, and bounds its waits. */
export class Stopwatch {
  /** Milliseconds from the start to the first token; null before it. */
  firstMs: number | null = null;
  readonly #clock: Clock;
  readonly #startMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startMs = clock.monotonicMs();
  }

  get elapsedMs(): number {
    return this.#clock.monotonicMs() - this.#startMs;
  }

  markFirst(): void {
    this.firstMs ??= this.elapsedMs;
  }

  /** A signal that follows `outer` and can be given successive time limits. */
  guard(outer: AbortSignal): Guard {
    return new Guard(this.#clock, outer);
  }
}

/**
 * Limits are set twice per token: they only move a due time, and one timer looks at it when it fires.
 */
export class Guard {
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  readonly #outer: AbortSignal;
  readonly #onAbort = (): void => this.#abort.abort(this.#outer.reason);
  #due: { atMs: number; timeoutMs: number; what: string } | null = null;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #cancelTimer = (): void => undefined;

  constructor(clock: Clock, outer: AbortSignal) {
    this.#clock = clock;
    this.#outer = outer;
    if (outer.aborted) this.#onAbort();
    outer.addEventListener("abort", this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Replaces the present limit; null removes it. `elapsedMs` of it are over already. */
  limit(timeoutMs: number | null, what: string, elapsedMs = 0): void {
    if (timeoutMs === null) {
      this.#due = null;
      return;
    }
    const leftMs = Math.max(0, timeoutMs - elapsedMs);
    const atMs = this.#clock.monotonicMs() + leftMs;
    this.#due = { atMs, timeoutMs, what };
    if (atMs < this.#timerAtMs) this.#arm(leftMs, atMs);
  }

  release(): void {
    this.#due = null;
    this.#cancelTimer();
    this.#outer.removeEventListener("abort", this.#onAbort);
  }

  #arm(delayMs: number, atMs: number): void {
    this.#cancelTimer();
    this.#timerAtMs = atMs;
    this.#cancelTimer = this.#clock.schedule(delayMs, () => {
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      if (this.#due === null) return;
      const { atMs: dueMs, timeoutMs, what } = this.#due;
      const leftMs = dueMs - this.#clock.monotonicMs();
      if (leftMs > 0) return this.#arm(leftMs, dueMs);
      this.#abort.abort(
        new SkeinError("provider_stalled", `The provider did not ${what} within ${timeoutMs} ms.`),
      );
    });
  }
}
