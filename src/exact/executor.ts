/**
 * The executor port: runs a range of layers over tokens and keeps what they remember. Implementations: `reference/`
 * (reads like the specification) and `wasm/` (quick). Both give the same bits; `executor.suite.ts` checks it.
 */
import type { ExactShape, LayerRange, NormWeights } from "./model/model.ts";

/** Keys and values of one token sequence in the executor's layers. */
export interface Sequence {
  /** Positions so far. */
  readonly length: number;
  /** The executor that made it; no other one can run it. */
  readonly owner: object;
  /** Whether it was given back. */
  readonly isFree: boolean;
  /** Forgets all positions from `length` on. @throws SkeinError `invalid_request` unless `length` is a whole number ≥ 0 */
  truncate(length: number): void;
  /** Gives the memory back; the sequence must not be used any more. Idempotent. */
  free(): void;
  /**
   * Another sequence that begins with this one's first `length` positions; nothing is computed or copied for it.
   * @throws SkeinError `invalid_request` unless this one has so many, `overloaded` as `newSequence`
   */
  fork(length: number): Sequence;
}

/** One position of one sequence, the next one after those so far. */
export interface StepRow {
  readonly sequence: Sequence;
  /** A token id where the range begins with layer 0, else the residual vector of the layer before it. */
  readonly input: number | Int32Array;
  /** Whether logits are wanted where the range ends with the last layer. */
  readonly wantsLogits: boolean;
}

/**
 * Called for each row with what one layer made of it, as bytes (`layerLeafBytes` of commitment/): before the first
 * layer with the embedding as layer 0, then with layers 1, 2, … The bytes are only valid during the call.
 */
export type LayerListener = (row: number, layer: number, bytes: Uint8Array) => void;

export interface Executor {
  readonly shape: ExactShape;
  readonly range: LayerRange;
  /** Positions a sequence may have. */
  readonly contextTokensMax: number;
  /** Rows of one step. */
  readonly rowsMax: number;
  /** Weights of the norm in front of the output; null where the range ends before the last layer. */
  outputNorm(): NormWeights | null;
  /** @throws SkeinError `overloaded` when there is no memory for another sequence */
  newSequence(): Sequence;
  /**
   * Runs rows, those of one sequence in order, several sequences as one likes: results do not depend on what else is
   * in the step. Returns for each row logits (null where none were wanted), or its residual vector where the range
   * ends before the last layer.
   *
   * @throws SkeinError `invalid_request` for token ids outside the vocabulary or vectors of a wrong size,
   * `context_length_exceeded`, `overloaded` when there is no memory for so many positions; then nothing was computed
   */
  step(rows: readonly StepRow[], onLayer?: LayerListener): (Int32Array | null)[];
}

/** Keys and values in pages of a common pool; sequences that were forked share them. */
export interface PagedSequence extends Sequence {
  /** Free pages that growing to `length` positions takes, counting a copy of the last one where that is shared. */
  pagesTo(length: number): number;
  fork(length: number): PagedSequence;
}

export interface PagedExecutor extends Executor {
  /** Pages that nobody holds; infinite where memory is taken as it is needed. */
  freePages(): number;
  newSequence(): PagedSequence;
}
