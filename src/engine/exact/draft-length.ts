/** How many tokens to guess ahead: as many as pay. What was right lately says how likely the next guess is right. */

/** Guesses at a time; further ones are hardly ever right. */
export const draftTokensMax = 12;
/** Estimates are rough: what hardly pays is left. */
const payoffMin = 1.2;
/** Weight of everything earlier when another guess is judged. */
const memory = 0.9;
/** What a sequence begins with: two guesses, one of them right. */
const rightBefore = 1;
const wrongBefore = 1;
/** Who does not guess tries again after so many tokens. */
const restTokens = 48;

export interface Costs {
  /** Milliseconds that a token takes without guesses: a step by the sequences in it. */
  readonly tokenMs: number;
  /** Of one more row in the step, and of guessing its token. */
  readonly guessMs: number;
}

export class DraftLength {
  #right = rightBefore;
  #wrong = wrongBefore;
  #rested = 0;

  /** Guess j pays when the time it saves, as often as it and all before it are right, is more than it costs. */
  choose(costs: Costs | null): number {
    const likely = this.#right / (this.#right + this.#wrong);
    let count = 0;
    if (costs === null) count = rightBefore + wrongBefore;
    else
      while (count < draftTokensMax && likely ** (count + 1) * costs.tokenMs > payoffMin * costs.guessMs)
        count += 1;
    if (count > 0) return count;
    this.#rested += 1;
    if (this.#rested < restTokens || costs === null || costs.tokenMs < costs.guessMs) return 0;
    this.#rested = 0;
    return 1;
  }

  learn(guesses: number, right: number): void {
    if (guesses === 0) return;
    this.#right = memory * this.#right + right;
    this.#wrong = memory * this.#wrong + (right < guesses ? 1 : 0);
  }
}
