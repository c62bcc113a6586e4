import type { Consumed, Counts } from "./batch.ts";
import { nothingConsumed } from "./batch.ts";
import type { LineResult } from "./results.ts";

/** Which lines of a batch are done, and what they came to; made anew from the results after a restart. */
export class LineProgress {
  total = 0;
  #completed = 0;
  #failed = 0;
  #consumed: Consumed = nothingConsumed;
  #done = new Uint8Array(1024);

  get counts(): Counts {
    return { total: this.total, completed: this.#completed, failed: this.#failed };
  }

  get consumed(): Consumed {
    return this.#consumed;
  }

  get doneCount(): number {
    return this.#completed + this.#failed;
  }

  isDone(number: number): boolean {
    return ((this.#done[number >> 3] ?? 0) & (1 << (number & 7))) !== 0;
  }

  /** False: it was done already. */
  add(number: number, result: LineResult): boolean {
    if (this.isDone(number)) return false;
    if (number >> 3 >= this.#done.length) {
      const longer = new Uint8Array(Math.max(2 * this.#done.length, (number >> 3) + 1));
      longer.set(this.#done);
      this.#done = longer;
    }
    this.#done[number >> 3]! |= 1 << (number & 7);
    if (result.isAnswer) this.#completed += 1;
    else this.#failed += 1;
    this.#consumed = {
      inputTokens: this.#consumed.inputTokens + result.inputTokens,
      cachedTokens: this.#consumed.cachedTokens + result.cachedTokens,
      outputTokens: this.#consumed.outputTokens + result.outputTokens,
      feeAmount: this.#consumed.feeAmount + BigInt(result.feeAmount),
    };
    return true;
  }
}
