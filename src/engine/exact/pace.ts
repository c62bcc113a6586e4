/** How long a step of so many rows takes: a straight line through recent steps. Weights are read once for all rows, so the first costs most. */

export class Pace {
  readonly #memory: number;
  #weight = 0;
  #rows = 0;
  #ms = 0;
  #rowsSquared = 0;
  #rowsMs = 0;

  /** @param memory weight of all earlier steps when another one comes */
  constructor(memory: number) {
    this.#memory = memory;
  }

  learn(rows: number, ms: number): void {
    this.#weight = this.#memory * this.#weight + 1;
    this.#rows = this.#memory * this.#rows + rows;
    this.#ms = this.#memory * this.#ms + ms;
    this.#rowsSquared = this.#memory * this.#rowsSquared + rows * rows;
    this.#rowsMs = this.#memory * this.#rowsMs + rows * ms;
  }

  /** Whether steps of several sizes are remembered: those of one say nothing about others. */
  get hasSeenSizes(): boolean {
    return this.#spread >= 1e-6 * this.#weight ** 2 && this.#weight > 0;
  }

  get #spread(): number {
    return this.#weight * this.#rowsSquared - this.#rows ** 2;
  }

  /** Milliseconds of one more row; null before anything is known. */
  get rowMs(): number | null {
    if (this.#weight === 0) return null;
    const mean = this.#ms / this.#rows;
    if (!this.hasSeenSizes) return mean;
    const slope = (this.#weight * this.#rowsMs - this.#rows * this.#ms) / this.#spread;
    return Math.min(mean, Math.max(mean / costRatioMax, slope));
  }

  /** Milliseconds of a step of so many rows; null before anything is known. */
  stepMs(rows: number): number | null {
    const { rowMs } = this;
    if (rowMs === null) return null;
    const fixedMs = Math.max(0, (this.#ms - rowMs * this.#rows) / this.#weight);
    return fixedMs + rowMs * rows;
  }

  /** Rows of a step that takes no longer than `ms`, beside `others`. */
  rowsWithin(ms: number, others: number): number {
    const { rowMs } = this;
    if (rowMs === null || rowMs === 0) return rowsUnknown;
    return Math.floor((ms - this.stepMs(others)!) / rowMs);
  }
}

/** More rows are never so much cheaper than the average one; a line through few points may say so. */
const costRatioMax = 16;
/** A first step that is neither long nor useless. */
const rowsUnknown = 8;
