/** How many tokens to guess ahead: as many as pay. What was right lately says how likely the next guess is right. */

/** Guesses at a time; further ones are hardly ever right. */
export const draftTokensMax = 12;
/** Estimates are rough: what hardly pays is left. */
const payoffMin = 1.25;
/** Weight of everything earlier when another guess is judged. */
const memory = 0.9;
/** Who does not guess tries again after so many tokens, and after twice as many each time that it was in vain. */
const restTokensMin = 48;
const restTokensMax = 8_192;
/** What is known to be wrong more often is not tried, whatever it may cost. */
const triedOddsMin = 0.7;

export interface Costs {
  /** Milliseconds that a token takes without guesses: a step by the sequences in it. */
  readonly tokenMs: number;
  /** Of one more row in the step, and of guessing its token; null before steps of several sizes were seen. */
  readonly guessMs: number | null;
}

/** How often guesses were right lately. */
export class DraftOdds {
  #right: number;
  #wrong: number;

  /** @param likely what it begins with, as if one guess had shown it */
  constructor(likely: number) {
    this.#right = likely;
    this.#wrong = 1 - likely;
  }

  get likely(): number {
    return this.#right / (this.#right + this.#wrong);
  }

  /** @param right of `guesses`, those before the first wrong one */
  learn(guesses: number, right: number): void {
    if (guesses === 0) return;
    this.#right = memory * this.#right + right;
    this.#wrong = memory * this.#wrong + (right < guesses ? 1 : 0);
  }
}

/** Guess j pays when the time it saves, as often as it and all before it are right, is more than it costs. */
export function draftCount(likely: number, { tokenMs, guessMs }: Costs): number {
  if (guessMs === null) return 0;
  let count = 0;
  while (count < draftTokensMax && likely ** (count + 1) * tokenMs > payoffMin * guessMs) count += 1;
  return count;
}

/** Tries now and then what does not seem to pay: costs and odds change. For all answers together, so that what is in vain is rare. */
export class DraftTries {
  #rest = restTokensMin;
  #rested = restTokensMin;

  /** Whether to guess one token of an answer that would otherwise guess none. */
  isDue(likely: number): boolean {
    this.#rested += 1;
    if (this.#rested < this.#rest || likely < triedOddsMin) return false;
    this.#rested = 0;
    this.#rest = Math.min(restTokensMax, 2 * this.#rest);
    return true;
  }

  /** Guesses pay. */
  reset(): void {
    this.#rest = restTokensMin;
  }
}
