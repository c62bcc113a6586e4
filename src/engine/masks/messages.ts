/** Messages between an engine and a thread that computes masks, and the memory that they share. */

/** Bytes of all tokens, one after another; those of token i end at `ends[i]`. Shared by all threads. */
export interface Vocabulary {
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly ends: Uint32Array<SharedArrayBuffer>;
  /** Tokens that end an answer. */
  readonly stopIds: readonly number[];
}

/** Words of the memory that one sequence shares with its thread. */
export const shared = {
  /** How many states were reached: one at the beginning, one more for each token. Written last. */
  states: 0,
  /** One of `outcomes`. */
  outcome: 1,
  /** From here on one bit a token. */
  mask: 2,
} as const;

export const outcomes = {
  open: 0,
  /** Nothing can follow: the answer ends. */
  complete: 1,
  /** A token came that the grammar does not allow. */
  refused: 2,
} as const;

export type ToMaskThread =
  | { readonly type: "compile"; readonly id: number; readonly grammar: string }
  /** Frees a compiled grammar that no sequence uses. */
  | { readonly type: "forget"; readonly id: number; readonly grammar: string }
  | {
      readonly type: "open";
      readonly id: number;
      readonly grammar: string;
      readonly memory: SharedArrayBuffer;
      /** Of the answer so far. */
      readonly tokenIds: readonly number[];
    }
  | { readonly type: "advance"; readonly id: number; readonly tokenId: number }
  | { readonly type: "close"; readonly id: number };

export type FromMaskThread =
  | { readonly type: "compiled"; readonly id: number }
  /** What is wrong with the grammar. The thread is of no use any more. */
  | { readonly type: "refused"; readonly id: number; readonly reason: string }
  | { readonly type: "opened"; readonly id: number };
