/** Money that may be spent per day (UTC), also across restarts: what is written counts before it is spent. */
import { z } from "zod";
import type { Clock } from "../../util/clock.ts";

/** Where the day's sum is kept; `write` must be atomic. */
export interface BudgetStore {
  read(): string | null;
  write(text: string): void;
}

const dayMs = 86_400_000;
const schema = z.object({ day: z.string(), spent: z.string().regex(/^\d{1,30}$/) });

export class DailyBudget {
  readonly limit: bigint;
  readonly #clock: Clock;
  readonly #store: BudgetStore;
  #day = "";
  #spent = 0n;

  /** @throws what the store throws, and when it holds something else: money must not be forgotten */
  constructor(clock: Clock, store: BudgetStore, limit: bigint) {
    this.#clock = clock;
    this.#store = store;
    this.limit = limit;
    const text = store.read();
    if (text === null) return;
    const { day, spent } = schema.parse(JSON.parse(text));
    this.#day = day;
    this.#spent = BigInt(spent);
  }

  get spentToday(): bigint {
    return this.#day === this.#today() ? this.#spent : 0n;
  }

  /** Until the next day begins. */
  get secondsLeft(): number {
    return Math.ceil((dayMs - (this.#clock.nowMs() % dayMs)) / 1000);
  }

  /**
   * Sets the most that something can cost aside. Null when that is more than is left; else a function that
   * puts what it did cost in its place.
   */
  reserve(most: bigint): ((cost: bigint) => void) | null {
    const day = this.#today();
    const spent = this.spentToday;
    if (spent + most > this.limit) return null;
    this.#put(day, spent + most);
    let isSettled = false;
    return (cost) => {
      // What began before midnight was that day's.
      if (isSettled || this.#day !== day) return;
      isSettled = true;
      this.#put(day, this.#spent - most + (cost < most ? cost : most));
    };
  }

  #put(day: string, spent: bigint): void {
    this.#store.write(JSON.stringify({ day, spent: spent.toString() }));
    this.#day = day;
    this.#spent = spent;
  }

  #today(): string {
    return new Date(this.#clock.nowMs()).toISOString().slice(0, 10);
  }
}
