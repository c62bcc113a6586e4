/** Second attempts per attempt, so that duplicate work stays below 3 % even when a whole network slows down. */
const hedgeShareMax = 0.025;
/** Unused shares that are kept for a bad moment. */
const hedgesSavedMax = 5;

/** Counts how many second attempts may be made: beside a late first token, or a stream that became slow. */
export class HedgeBudget {
  readonly #shareMax: number;
  #saved: number;

  /** @param shareMax second attempts per attempt; 0: never any */
  constructor(shareMax: number = hedgeShareMax) {
    this.#shareMax = shareMax;
    this.#saved = shareMax > 0 ? 1 : 0;
  }

  attempted(): void {
    this.#saved = Math.min(hedgesSavedMax, this.#saved + this.#shareMax);
  }

  get isSpent(): boolean {
    return this.#saved < 1;
  }

  take(): boolean {
    if (this.isSpent) return false;
    this.#saved -= 1;
    return true;
  }
}
