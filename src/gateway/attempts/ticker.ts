/** One timer for all running streams; it notices when this process itself stood still. */
import type { Clock } from "../../util/clock.ts";

export interface Ticking {
  /** @param stoodStill whether nobody could have been heard in time since the last tick */
  tick(stoodStill: boolean): void;
}

export class Ticker {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #lateMaxMs: number;
  readonly #all = new Set<Ticking>();
  #cancel: (() => void) | null = null;

  constructor(clock: Clock, { tickMs, tickLateMaxMs }: { tickMs: number; tickLateMaxMs: number }) {
    this.#clock = clock;
    this.#tickMs = tickMs;
    this.#lateMaxMs = tickLateMaxMs;
  }

  /** Returns a function that takes it out again. */
  add(ticking: Ticking): () => void {
    this.#all.add(ticking);
    if (this.#cancel === null) this.#schedule();
    return () => this.#all.delete(ticking);
  }

  #schedule(): void {
    const dueMs = this.#clock.monotonicMs() + this.#tickMs;
    this.#cancel = this.#clock.schedule(this.#tickMs, () => {
      this.#cancel = null;
      const stoodStill = this.#clock.monotonicMs() - dueMs > this.#lateMaxMs;
      for (const ticking of this.#all) ticking.tick(stoodStill);
      if (this.#all.size > 0) this.#schedule();
    });
  }
}
