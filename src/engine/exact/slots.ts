/**
 * Contexts of the executor. A slot keeps the keys and values of its last request, so that the next turn of the same
 * conversation evaluates only what is new: it gets the same bits.
 */
import type { Executor, Sequence as Cache } from "../../exact/executor.ts";
import { commonPrefix } from "../common-prefix.ts";

export interface Slot {
  readonly id: number;
  readonly cache: Cache;
  /** Token ids whose keys and values are in the cache, in order. */
  cells: number[];
  /** Row hashes of the first of them, as far as receipts were wanted (`row-hashes.ts`). */
  rows: Uint8Array[];
  busy: boolean;
  /** Order of last use, for choosing the coldest. */
  usedAt: number;
}

export interface TakeWishes {
  /** Whether row hashes are wanted of all positions. */
  readonly hasRows?: boolean;
  /** From this position on everything is wanted anew. */
  readonly sharedMax?: number;
}

export class SlotTable {
  readonly #slots: readonly Slot[];
  #uses = 0;

  /** Takes all memory at once: better no engine than one that refuses its last request. @throws SkeinError `overloaded` */
  constructor(executor: Executor, count: number) {
    this.#slots = Array.from({ length: count }, (_, id) => ({
      id,
      cache: executor.newSequence(),
      cells: [],
      rows: [],
      busy: false,
      usedAt: 0,
    }));
  }

  /** A free slot that remembers the longest beginning of `tokens`. The last one is evaluated again: its logits are wanted. */
  take(tokens: readonly number[], { hasRows, sharedMax }: TakeWishes = {}): Slot | null {
    const free = this.#slots.filter(({ busy }) => !busy);
    const [best] = free
      .map((slot) => ({
        slot,
        shared: Math.min(
          commonPrefix(slot.cells, tokens),
          tokens.length - 1,
          hasRows === true ? slot.rows.length : Number.POSITIVE_INFINITY,
          sharedMax ?? Number.POSITIVE_INFINITY,
        ),
      }))
      .toSorted((a, b) => b.shared - a.shared || a.slot.usedAt - b.slot.usedAt);
    if (best === undefined) return null;
    const { slot, shared } = best;
    slot.busy = true;
    slot.usedAt = ++this.#uses;
    forgetFrom(slot, shared);
    return slot;
  }
}

/** Forgets all positions from `length` on. */
export function forgetFrom(slot: Slot, length: number): void {
  slot.cache.truncate(length);
  slot.cells.length = length;
  slot.rows.length = Math.min(slot.rows.length, length);
}
