/**
 * The port of speculative decoding: guesses the next tokens of sequences. A guess costs time when it is wrong, and changes nothing else:
 * each token is drawn from the model's own logits with the sampler keyed by (seed, position), whoever guessed it.
 */

export interface DraftWish {
  /** The same object for the same sequence, until `forget`. */
  readonly key: object;
  /** All tokens so far, at least one. */
  readonly tokens: readonly number[];
  /** Tokens wanted at most, at least one. */
  readonly countMax: number;
  /** What would be drawn from such logits behind the tokens so far and `drafted`; null where the answer would end. */
  readonly draw: (logits: Int32Array, drafted: readonly number[]) => number | null;
}

export interface DraftSource {
  /** Whether a guess costs next to nothing: then it is asked for guesses that are only compared with what comes. */
  readonly isFree: boolean;
  /** For each wish tokens that may come next, at most as many as wanted; none where it has no idea. */
  propose(wishes: readonly DraftWish[]): readonly (readonly number[])[];
  /** The sequence has ended or waits. Idempotent. */
  forget(key: object): void;
}
