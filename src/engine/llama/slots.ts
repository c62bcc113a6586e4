/**
 * Slots of the KV cache. A slot keeps the keys and values of its last request, so that the next turn
 * of the same conversation prefills only what is new.
 */
import { commonPrefix } from "../common-prefix.ts";
import { gapsBetween } from "./batch-plan.ts";
import type { NativeContext } from "./binding.ts";

export interface Slot {
  readonly id: number;
  /** Token ids whose keys and values are in the cache, in order. */
  cells: number[];
  busy: boolean;
  /** Order of last use, for choosing the coldest. */
  usedAt: number;
}

/** Copying cells between slots costs about as much as prefilling this many tokens. */
const copyTokensMin = 64;
/** Any token will do: its cell is removed before anybody sees it. */
const dummyToken = Uint32Array.of(0);
const noLogits = new Uint32Array(0);

export class SlotTable {
  readonly slots: readonly Slot[];
  readonly #context: NativeContext;
  readonly #contextTokens: number;
  #uses = 0;
  /** Whether single cells can be taken off again; recurrent models cannot. */
  #trims = true;

  constructor(context: NativeContext, count: number, contextTokens: number) {
    this.#context = context;
    this.#contextTokens = contextTokens;
    this.slots = Array.from({ length: count }, (_, id) => ({ id, cells: [], busy: false, usedAt: 0 }));
  }

  /**
   * Takes a free slot for `tokens` and makes its cache hold the longest prefix that is to be had. The
   * last token is always evaluated again, because its logits are wanted.
   */
  async take(tokens: readonly number[]): Promise<Slot | null> {
    const free = this.slots.filter((slot) => !slot.busy);
    if (free.length === 0) return null;
    const best = free.toSorted((a, b) => this.#preference(b, tokens) - this.#preference(a, tokens))[0]!;
    best.busy = true;
    best.usedAt = ++this.#uses;
    await this.#copyLongerPrefix(best, tokens);
    this.#trim(best, Math.min(commonPrefix(best.cells, tokens), tokens.length - 1));
    return best;
  }

  /** Takes a free slot, the coldest, and empties it. */
  takeEmpty(): Slot | null {
    const slot = this.slots.filter(({ busy }) => !busy).toSorted((a, b) => a.usedAt - b.usedAt)[0];
    if (slot === undefined) return null;
    slot.busy = true;
    slot.usedAt = ++this.#uses;
    slot.cells = [];
    this.#context.disposeSequence(slot.id);
    return slot;
  }

  /** Forgets everything, after a failed step left the cache in doubt. */
  clear(): void {
    for (const slot of this.slots) {
      slot.cells = [];
      this.#context.disposeSequence(slot.id);
    }
  }

  /** Slots between those of `ids` that a dummy token can fill for one step. */
  gaps(ids: readonly number[]): number[] {
    const gaps = this.#trims ? gapsBetween(ids) : [];
    return gaps.every((id) => this.slots[id]!.cells.length < this.#contextTokens) ? gaps : [];
  }

  addDummy(id: number): void {
    this.#context.addToBatch(id, this.slots[id]!.cells.length, dummyToken, noLogits);
  }

  removeDummy(id: number): void {
    const slot = this.slots[id]!;
    if (this.#context.removeTokenCellsFromSequence(id, slot.cells.length, -1)) return;
    this.#trims = false;
    this.#context.disposeSequence(id);
    slot.cells = [];
  }

  /** Longest common prefix first; among equals the emptiest, then the least recently used. */
  #preference(slot: Slot, tokens: readonly number[]): number {
    const shared = commonPrefix(slot.cells, tokens);
    return shared * 1e9 - (slot.cells.length === 0 ? 0 : 1e6) - slot.usedAt * 1e-3;
  }

  async #copyLongerPrefix(target: Slot, tokens: readonly number[]): Promise<void> {
    const have = commonPrefix(target.cells, tokens);
    const source = this.slots
      .filter((slot) => slot !== target)
      .map((slot) => ({ slot, shared: commonPrefix(slot.cells, tokens) }))
      .toSorted((a, b) => b.shared - a.shared)[0];
    if (source === undefined || source.shared < have + copyTokensMin) return;
    this.#context.disposeSequence(target.id);
    target.cells = [];
    await this.#context.copySequenceStateFromOtherSequence(target.id, source.slot.id);
    target.cells = [...source.slot.cells];
  }

  #trim(slot: Slot, length: number): void {
    if (length === slot.cells.length) return;
    const trimmed = length > 0 && this.#context.removeTokenCellsFromSequence(slot.id, length, -1);
    // Caches with a sliding window have forgotten the beginning: then the tail cannot be taken off.
    if (trimmed && this.#context.getSequenceKvCacheMinPosition(slot.id) === 0) {
      slot.cells.length = length;
    } else {
      this.#context.disposeSequence(slot.id);
      slot.cells = [];
    }
  }
}
