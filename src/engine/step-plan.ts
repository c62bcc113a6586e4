/** Who evaluates how much in the next step: a pure decision, the same for every engine with continuous batching. */

/** What planning needs to know of a sequence. */
export interface Reader {
  /** In this order shares are put into the step. */
  readonly order: number;
  /** Tokens not yet evaluated; one while decoding. */
  readonly pending: number;
  /** At most this many of them may go into one step. */
  readonly chunkMax: number;
  /** The last step in which it had a share, set by `planStep`'s caller; 0: none. */
  readonly servedAt: number;
}

export interface Share<S extends Reader> {
  readonly sequence: S;
  readonly count: number;
}

export interface StepLimits {
  /** Tokens of prompts in a step in which nobody decodes. */
  readonly prefillTokensMax: number;
  /** The same beside others that decode: they wait for all of them. */
  readonly sharedPrefillTokensMax: number;
}

/** Smaller shares would make reading slow; rather some wait for the next step. */
export const shareTokensMin = 8;

/**
 * Decoding sequences evaluate one token each; the rest of the step is shared out evenly among those that still read their
 * prompts. Where that would be little for each, those have their turn that waited longest.
 */
export function planStep<S extends Reader>(active: readonly S[], limits: StepLimits): Share<S>[] {
  const decoding = active.filter(({ pending }) => pending === 1);
  const shares: Share<S>[] = decoding.map((sequence) => ({ sequence, count: 1 }));
  let left = decoding.length === 0 ? limits.prefillTokensMax : limits.sharedPrefillTokensMax;
  const reading = active
    .filter(({ pending }) => pending > 1)
    .toSorted((a, b) => a.servedAt - b.servedAt)
    .slice(0, Math.max(1, Math.floor(left / shareTokensMin)))
    .toSorted((a, b) => want(a) - want(b));
  reading.forEach((sequence, i) => {
    // Shortest first: what it does not need goes to the longer ones.
    const count = Math.min(want(sequence), Math.floor(left / (reading.length - i)));
    left -= count;
    if (count > 0) shares.push({ sequence, count });
  });
  return shares.toSorted((a, b) => a.sequence.order - b.sequence.order);
}

function want(reader: Reader): number {
  return Math.min(reader.pending, reader.chunkMax);
}
