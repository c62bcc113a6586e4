/** When a stream that became slow is worth going on with elsewhere: bounds and decision, pure. */
import type { Candidate } from "./predict.ts";

export interface MovePolicy {
  /** How often running streams are looked at. */
  readonly tickMs: number;
  /** A look that is this late says that this process itself stood still: what was measured until then is forgotten. */
  readonly tickLateMaxMs: number;
  /** Time in which tokens were waited for that a pace is taken from: shorter pauses have many innocent causes. */
  readonly windowMs: number;
  /** Slow is who needs this many times as long per token as is usual for it. */
  readonly slowFactor: number;
  /** Tokens of the stream itself that say what is usual where nothing else does. */
  readonly usualTokensMin: number;
  /** To finish elsewhere must take at most this part of the time that is left here… */
  readonly gainShareMax: number;
  /** …and be sooner by so much. */
  readonly gainMinMs: number;
  /** The other one must reach the stream's position in this time. */
  readonly catchUpMaxMs: number;
  /** From one try, or search for a place, to the next of the same stream. */
  readonly pauseMs: number;
  /** Tries of one stream; on top of that all share the budget of second attempts. */
  readonly movesMax: number;
}

export const defaultMovePolicy: MovePolicy = {
  tickMs: 500,
  tickLateMaxMs: 100,
  windowMs: 3_000,
  slowFactor: 4,
  usualTokensMin: 8,
  gainShareMax: 0.5,
  gainMinMs: 2_000,
  catchUpMaxMs: 15_000,
  pauseMs: 2_000,
  movesMax: 3,
};

/** How a stream goes, as measured at the gateway. */
export interface StreamPace {
  /** Over the last window. */
  readonly msPerToken: number;
  /** Of its provider before, or of the stream's own beginning. */
  readonly usualMsPerToken: number;
}

export function isSlow({ msPerToken, usualMsPerToken }: StreamPace, policy: MovePolicy): boolean {
  return msPerToken >= policy.slowFactor * usualMsPerToken;
}

/**
 * Whether another provider would finish so much sooner that the double work is worth it.
 *
 * @param there the candidate, its predicted time to first token for the prompt, and what is assumed of unmeasured ones
 */
export function isWorthMoving(
  { msPerToken }: StreamPace,
  { tokensEmitted, tokensLeft }: { tokensEmitted: number; tokensLeft: number },
  there: { candidate: Candidate; ttftMs: number; unknownTpotMs: number },
  policy: MovePolicy,
): boolean {
  const { candidate, ttftMs, unknownTpotMs } = there;
  const hereMs = tokensLeft * msPerToken;
  // What was emitted is prefilled there, too.
  const beginMs = ttftMs + tokensEmitted * candidate.prefillMsPerToken;
  const thereMs = beginMs + tokensLeft * (candidate.tpotMs ?? unknownTpotMs);
  return thereMs <= policy.gainShareMax * hereMs && hereMs - thereMs >= policy.gainMinMs;
}

/** The pace of a stream over its latest window, from looks at it. */
export class PaceWindow {
  readonly #policy: MovePolicy;
  /** Of the provider's earlier answers; null: there were none. */
  readonly #knownMsPerToken: number | null;
  #looks: { readonly waitedMs: number; readonly tokens: number }[] = [];

  constructor(policy: MovePolicy, knownMsPerToken: number | null) {
    this.#policy = policy;
    this.#knownMsPerToken = knownMsPerToken;
  }

  forget(): void {
    this.#looks = [];
  }

  /**
   * @param waitedMs in which the stream's tokens were waited for, since its first one
   * @param tokens that came since the first one
   * @returns null while too little is known
   */
  look(waitedMs: number, tokens: number): StreamPace | null {
    const looks = this.#looks;
    // While the client reads nothing, nobody waits: such looks say nothing, and there may be many.
    if (looks.at(-1)?.waitedMs === waitedMs) looks.pop();
    looks.push({ waitedMs, tokens });
    while (looks.length > 1 && waitedMs - looks[1]!.waitedMs >= this.#policy.windowMs) looks.shift();
    const oldest = looks[0]!;
    const windowMs = waitedMs - oldest.waitedMs;
    if (windowMs < this.#policy.windowMs) return null;
    const ownMsPerToken =
      oldest.tokens < this.#policy.usualTokensMin ? null : oldest.waitedMs / oldest.tokens;
    const usualMsPerToken = this.#knownMsPerToken ?? ownMsPerToken;
    if (usualMsPerToken === null) return null;
    return { msPerToken: windowMs / Math.max(1, tokens - oldest.tokens), usualMsPerToken };
  }
}
