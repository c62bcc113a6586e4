/**
 * Byte-pair merging: of all neighbours that may merge, those of the lowest rank do, the leftmost first.
 *
 * Not with `@huggingface/tokenizers`: it takes 3 to 5 s for a million equal letters or spaces (this 0.2), leaves
 * words to the Unicode version of the JavaScript engine, cannot leave special tokens in a user's text alone, and
 * knows no SentencePiece scores.
 */

/** Which symbols may merge: an open-addressing hash table, for a `Map` takes four times as long. */
export class PairTable {
  readonly #lefts: Int32Array;
  readonly #rights: Int32Array;
  readonly #ranks: Int32Array;
  readonly #merged: Int32Array;
  readonly #mask: number;

  constructor(pairsMax: number) {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(4, pairsMax * 2)));
    this.#lefts = new Int32Array(slots).fill(-1);
    this.#rights = new Int32Array(slots);
    this.#ranks = new Int32Array(slots);
    this.#merged = new Int32Array(slots);
    this.#mask = slots - 1;
  }

  /** The first rank given to a pair holds. */
  add(left: number, right: number, rank: number, merged: number): void {
    const slot = this.#slotOf(left, right);
    if (this.#lefts[slot] !== -1) return;
    this.#lefts[slot] = left;
    this.#rights[slot] = right;
    this.#ranks[slot] = rank;
    this.#merged[slot] = merged;
  }

  /** -1 when they do not merge. */
  rank(left: number, right: number): number {
    const slot = this.#slotOf(left, right);
    return this.#lefts[slot] === -1 ? -1 : this.#ranks[slot]!;
  }

  /** Only for pairs that have a rank. */
  merged(left: number, right: number): number {
    return this.#merged[this.#slotOf(left, right)]!;
  }

  #slotOf(left: number, right: number): number {
    const hash = Math.imul(Math.imul(left, 0x9e3779b1) ^ right, 0x85ebca6b);
    let slot = (hash ^ (hash >>> 15)) & this.#mask;
    while (this.#lefts[slot] !== -1 && (this.#lefts[slot] !== left || this.#rights[slot] !== right)) {
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }
}

/** Heap entries are `rank * positions + left`: exact in a double for 2^22 ranks. */
const positions = 2 ** 31;

/** The symbols that are left. In time O(n log n). */
export function mergePairs(pairs: PairTable, given: Int32Array): Int32Array {
  const count = given.length;
  const symbols = given.slice();
  const nexts = Int32Array.from(symbols, (_, i) => (i + 1 < count ? i + 1 : -1));
  const previous = Int32Array.from(symbols, (_, i) => i - 1);
  // Each merge takes an entry and adds at most two.
  const heap = new MinHeap(2 * count);
  const offer = (left: number): void => {
    const next = left < 0 ? -1 : nexts[left]!;
    const rank = next < 0 ? -1 : pairs.rank(symbols[left]!, symbols[next]!);
    if (rank >= 0) heap.push(rank * positions + left);
  };
  for (let i = 0; i + 1 < count; i++) offer(i);
  while (heap.size > 0) {
    const entry = heap.pop();
    const rank = Math.floor(entry / positions);
    const left = entry - rank * positions;
    const next = nexts[left]!;
    // Gone, or merged since, into a pair of another rank that has an entry of its own.
    if (symbols[left] === gone || next < 0 || pairs.rank(symbols[left]!, symbols[next]!) !== rank) continue;
    symbols[left] = pairs.merged(symbols[left]!, symbols[next]!);
    symbols[next] = gone;
    const after = nexts[next]!;
    nexts[left] = after;
    if (after >= 0) previous[after] = left;
    offer(previous[left]!);
    offer(left);
  }
  return symbols.filter((symbol) => symbol !== gone);
}

const gone = -1;

class MinHeap {
  readonly #entries: Float64Array;
  size = 0;

  constructor(capacity: number) {
    this.#entries = new Float64Array(capacity);
  }

  push(entry: number): void {
    const entries = this.#entries;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (entries[parent]! <= entry) break;
      entries[at] = entries[parent]!;
      at = parent;
    }
    entries[at] = entry;
  }

  pop(): number {
    const entries = this.#entries;
    const least = entries[0]!;
    const entry = entries[--this.size]!;
    let at = 0;
    for (let child = 1; child < this.size; child = 2 * at + 1) {
      if (child + 1 < this.size && entries[child + 1]! < entries[child]!) child++;
      if (entries[child]! >= entry) break;
      entries[at] = entries[child]!;
      at = child;
    }
    entries[at] = entry;
    return least;
  }
}
