/** Speculative decoding in the batch: who guesses how much for which sequence, and what came of it. Changes no token of any answer. */
import type { DraftSource, DraftWish } from "../../exact/drafts/draft-source.ts";
import type { Share } from "../step-plan.ts";
import { type Costs, DraftLength } from "./draft-length.ts";
import type { Pace } from "./pace.ts";
import type { Sequence } from "./sequence.ts";

/** Weight of a new sample in the moving average. */
const sampleWeight = 0.2;

/** A source, and how it did. */
interface Guesser {
  readonly source: DraftSource;
  readonly lengths: WeakMap<Sequence, DraftLength>;
  /** Milliseconds of one guess. */
  guessMs: number;
}

export interface Guess {
  readonly tokens: readonly number[];
  readonly length: DraftLength;
}

export class Speculation {
  readonly #guessers: readonly Guesser[];
  readonly #fixedCount: number | null;

  /** @param sources in order of preference. @param fixedCount guesses whether they pay or not */
  constructor(sources: readonly DraftSource[], fixedCount: number | null = null) {
    this.#guessers = sources.map((source) => ({ source, lengths: new WeakMap(), guessMs: 0 }));
    this.#fixedCount = fixedCount;
  }

  /** Guesses for those that decode, `rowsMax` in all. */
  propose(shares: readonly Share<Sequence>[], rowsMax: number, pace: Pace): Map<Sequence, Guess> {
    const guesses = new Map<Sequence, Guess>();
    let left = shares.filter(({ sequence }) => sequence.pending === 1).map(({ sequence }) => sequence);
    const rows = shares.reduce((sum, { count }) => sum + count, 0);
    const tokens = left.length;
    let room = rowsMax;
    for (const guesser of this.#guessers) {
      const costs = costsOf(pace, rows, tokens, guesser.guessMs);
      const wanted = left.flatMap((sequence) => {
        const countMax = Math.min(this.#countFor(guesser, sequence, costs), sequence.roomLeft, room);
        room -= Math.max(0, countMax);
        return countMax > 0 ? [{ sequence, wish: wishOf(sequence, countMax) }] : [];
      });
      if (wanted.length === 0) continue;
      const startMs = performance.now();
      const proposed = guesser.source.propose(wanted.map(({ wish }) => wish));
      const count = proposed.reduce((sum, guess) => sum + guess.length, 0);
      const spentMs = performance.now() - startMs;
      if (count > 0) guesser.guessMs += sampleWeight * (spentMs / count - guesser.guessMs);
      for (const [i, { sequence, wish }] of wanted.entries()) {
        const guess = proposed[i]!;
        room += wish.countMax - guess.length;
        if (guess.length > 0) guesses.set(sequence, { tokens: guess, length: lengthOf(guesser, sequence) });
      }
      left = left.filter((sequence) => !guesses.has(sequence));
    }
    return guesses;
  }

  /** It ended, or gave its memory up. */
  forget(sequence: Sequence): void {
    for (const { source } of this.#guessers) source.forget(sequence);
  }

  #countFor(guesser: Guesser, sequence: Sequence, costs: Costs | null): number {
    return this.#fixedCount ?? lengthOf(guesser, sequence).choose(costs);
  }
}

function lengthOf({ lengths }: Guesser, sequence: Sequence): DraftLength {
  let length = lengths.get(sequence);
  if (length === undefined) lengths.set(sequence, (length = new DraftLength()));
  return length;
}

/** Where many decode together a row costs nearly what a token costs, and guessing ends by itself. */
function costsOf(pace: Pace, rows: number, tokens: number, guessMs: number): Costs | null {
  const { rowMs } = pace;
  if (rowMs === null || tokens === 0) return null;
  return { tokenMs: pace.stepMs(rows)! / tokens, guessMs: rowMs + guessMs };
}

function wishOf(sequence: Sequence, countMax: number): DraftWish {
  return {
    key: sequence,
    tokens: sequence.tokens,
    countMax,
    draw: (logits, drafted) => sequence.drawAhead(logits, drafted),
  };
}
