import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";

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

  /** Waits, or throws the signal's reason when it is aborted meanwhile. */
  pause(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        cancel();
        reject(signal.reason);
      };
      const cancel = this.#clock.schedule(delayMs, () => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      });
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** A signal that follows `outer` and can be given successive time limits. */
  guard(outer: AbortSignal): Guard {
    const abort = new AbortController();
    const onAbort = (): void => abort.abort(outer.reason);
    if (outer.aborted) onAbort();
    outer.addEventListener("abort", onAbort, { once: true });
    let cancel = (): void => undefined;
    return {
      signal: abort.signal,
      limit: (timeoutMs, what) => {
        cancel();
        if (timeoutMs === null) return;
        cancel = this.#clock.schedule(timeoutMs, () =>
          abort.abort(
            new SkeinError("provider_stalled", `The provider did not ${what} within ${timeoutMs} ms.`),
          ),
        );
      },
      release: () => {
        cancel();
        outer.removeEventListener("abort", onAbort);
      },
    };
  }
}

export interface Guard {
  readonly signal: AbortSignal;
  /** Replaces the present limit; null removes it. */
  limit(timeoutMs: number | null, what: string): void;
  release(): void;
}
