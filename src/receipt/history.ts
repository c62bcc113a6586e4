/** What a provider's receipts say about each other: every one follows exactly one other. */
import { equalBytes } from "../util/bytes.ts";
import type { Receipt } from "./receipt.ts";

/** Receipts that are remembered: answers of one provider that end at about the same time come in any order. */
const rememberedMax = 256;

interface Seen {
  readonly digest: Uint8Array;
  readonly previous: Uint8Array;
}

export class ReceiptHistory {
  readonly #seen = new Map<number, Seen>();
  #newest = 0;

  /** Takes the next one to have come. Returns what it proves against the provider, or null. */
  add({ sequence, previousReceipt: previous }: Receipt, digest: Uint8Array): string | null {
    const same = this.#seen.get(sequence);
    if (same !== undefined) {
      return equalBytes(same.digest, digest)
        ? "it was given for another answer already"
        : `there are two receipts with the number ${sequence}`;
    }
    if (sequence + rememberedMax <= this.#newest) {
      return `its number ${sequence} lies far behind ${this.#newest}, which came before`;
    }
    const before = this.#seen.get(sequence - 1);
    const after = this.#seen.get(sequence + 1);
    this.#seen.set(sequence, { digest, previous });
    this.#newest = Math.max(this.#newest, sequence);
    for (const old of this.#seen.keys()) {
      if (this.#seen.size <= rememberedMax) break;
      this.#seen.delete(old);
    }
    if (before !== undefined && !equalBytes(before.digest, previous)) {
      return `it does not follow the receipt with the number ${sequence - 1}`;
    }
    if (after !== undefined && !equalBytes(after.previous, digest)) {
      return `the receipt with the number ${sequence + 1} does not follow it`;
    }
    return null;
  }
}
