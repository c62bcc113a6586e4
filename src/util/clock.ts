/** Time as a port, so that the same code runs in production, in tests and in the simulator. */
export interface Clock {
  /** Wall clock, milliseconds since 1970 (for expiry dates and `created`). */
  nowMs(): number;
  /** Monotonic milliseconds with sub-millisecond resolution (for durations). */
  monotonicMs(): number;
  /** Calls back once after `delayMs`; returns a function that cancels. Never keeps the process alive. */
  schedule(delayMs: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

interface Timer {
  readonly dueMs: number;
  readonly order: number;
  /** Null: cancelled. */
  callback: (() => void) | null;
}

/** A clock that moves only when told to. Callbacks fire in order of their due time. */
export class ManualClock implements Clock {
  #nowMs: number;
  /** A binary heap: the earliest first. Simulations have many thousands of timers. */
  readonly #timers: Timer[] = [];
  #order = 0;

  constructor(startMs = 1_700_000_000_000) {
    this.#nowMs = startMs;
  }

  /** Whole milliseconds, as `Date.now()`. */
  nowMs(): number {
    return Math.floor(this.#nowMs);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  schedule(delayMs: number, callback: () => void): () => void {
    const timer: Timer = { dueMs: this.#nowMs + delayMs, order: this.#order++, callback };
    this.#insert(timer);
    return () => {
      timer.callback = null;
    };
  }

  /** When the next timer is due, on this clock; null: there is none. */
  get nextDueMs(): number | null {
    while (this.#timers[0]?.callback === null) this.#takeFirst();
    return this.#timers[0]?.dueMs ?? null;
  }

  advance(byMs: number): void {
    const endMs = this.#nowMs + byMs;
    for (;;) {
      const dueMs = this.nextDueMs;
      if (dueMs === null || dueMs > endMs) break;
      // A delay may be negative; time is not.
      this.#nowMs = Math.max(this.#nowMs, dueMs);
      this.#takeFirst().callback!();
    }
    this.#nowMs = endMs;
  }

  #insert(timer: Timer): void {
    const heap = this.#timers;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (isBefore(heap[above]!, timer)) break;
      heap[at] = heap[above]!;
      at = above;
    }
    heap[at] = timer;
  }

  #takeFirst(): Timer {
    const heap = this.#timers;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1]!, heap[below]!)) below += 1;
      if (isBefore(last, heap[below]!)) break;
      heap[at] = heap[below]!;
      at = below;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}
