/** Speculative decoding in the batch: who guesses how much for which sequence, and what came of it. Changes no token of any answer. */
import type { DraftSource, DraftWish } from "../../exact/drafts/draft-source.ts";
import type { Share } from "../step-plan.ts";
import { type Costs, draftCount, DraftOdds, DraftTries } from "./draft-odds.ts";
import type { Pace } from "./pace.ts";
import type { Sequence } from "./sequence.ts";

/** Weight of a new sample in the moving average. */
const sampleWeight = 0.2;

/** A source, and how it did. */
interface Guesser {
  readonly source: DraftSource;
  readonly odds: WeakMap<Sequence, DraftOdds>;
  /** Of all sequences: what another one begins with. */
  readonly allOdds: DraftOdds;
  readonly tries: DraftTries;
  /** What it said would come, of sequences for which nothing was evaluated. */
  readonly untried: WeakMap<Sequence, { readonly at: number; readonly token: number }>;
  /** Milliseconds of one guess. */
  guessMs: number;
}

export interface Guess {
  readonly tokens: readonly number[];
  /** So many of them, from the first on, were right. */
  learn(right: number): void;
}

export class Speculation {
  readonly #guessers: readonly Guesser[];
  readonly #fixedCount: number | null;

  /** @param sources in order of preference. @param fixedCount guesses whether they pay or not */
  constructor(sources: readonly DraftSource[], fixedCount: number | null = null) {
    this.#guessers = sources.map((source) => ({
      source,
      odds: new WeakMap(),
      // Sources that cost nothing have to show first that they are right.
      allOdds: new DraftOdds(source.isFree ? 0 : 1),
      tries: new DraftTries(),
      untried: new WeakMap(),
      guessMs: 0,
    }));
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
        if (guesser.source.isFree && this.#fixedCount === null) learnUntried(guesser, sequence);
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
        const isPossible = guess.length > 0 && sequence.allows(guess[0]!);
        room += wish.countMax - (isPossible ? guess.length : 0);
        if (isPossible) guesses.set(sequence, guessOf(guesser, sequence, guess));
        else if (guess.length > 0) learn(guesser, sequence, 1, 0);
      }
      left = left.filter((sequence) => !guesses.has(sequence));
    }
    return guesses;
  }

  /** It ended, or gave its memory up. */
  forget(sequence: Sequence): void {
    for (const { source } of this.#guessers) source.forget(sequence);
  }

  #countFor(guesser: Guesser, sequence: Sequence, costs: Costs): number {
    if (this.#fixedCount !== null) return this.#fixedCount;
    const { likely } = oddsOf(guesser, sequence);
    const count = draftCount(likely, costs);
    if (count > 0) guesser.tries.reset();
    // What a source that costs something would say is not known otherwise.
    else if (guesser.tries.isDue(guesser.source.isFree ? likely : 1)) return 1;
    return count;
  }
}

/** Asks a source that costs nothing what will come, and looks whether what it said before came: nothing is evaluated for it. */
function learnUntried(guesser: Guesser, sequence: Sequence): void {
  const { tokens } = sequence;
  const before = guesser.untried.get(sequence);
  if (before !== undefined && before.at < tokens.length) {
    learn(guesser, sequence, 1, tokens[before.at] === before.token ? 1 : 0);
  }
  const [guess] = guesser.source.propose([wishOf(sequence, 1)]);
  const token = guess?.[0];
  if (token === undefined) guesser.untried.delete(sequence);
  else guesser.untried.set(sequence, { at: tokens.length, token });
}

function guessOf(guesser: Guesser, sequence: Sequence, tokens: readonly number[]): Guess {
  // What comes of it is learnt when it was evaluated.
  guesser.untried.delete(sequence);
  return { tokens, learn: (right) => learn(guesser, sequence, tokens.length, right) };
}

function learn(guesser: Guesser, sequence: Sequence, guesses: number, right: number): void {
  oddsOf(guesser, sequence).learn(guesses, right);
  guesser.allOdds.learn(guesses, right);
}

function oddsOf({ source, odds: all, allOdds }: Guesser, sequence: Sequence): DraftOdds {
  let odds = all.get(sequence);
  // One text repeats itself, another does not; but a model is right as often as it is.
  if (odds === undefined) all.set(sequence, (odds = new DraftOdds(source.isFree ? 0 : allOdds.likely)));
  return odds;
}

/** Where many decode together a row costs nearly what a token costs, and guessing ends by itself. */
function costsOf(pace: Pace, rows: number, tokens: number, guessMs: number): Costs {
  const { rowMs } = pace;
  const isKnown = rowMs !== null && pace.hasSeenSizes;
  return {
    tokenMs: (pace.stepMs(rows) ?? 0) / Math.max(1, tokens),
    guessMs: isKnown ? rowMs + guessMs : null,
  };
}

function wishOf(sequence: Sequence, countMax: number): DraftWish {
  return {
    key: sequence,
    tokens: sequence.tokens,
    countMax,
    draw: (logits, drafted) => sequence.drawAhead(logits, drafted),
  };
}
