/**
 * Evidence against a provider of the float tier, token by token: an e-process W = Π (1 + λ_t (s_t − μ0)) over clipped
 * margins s_t. While the mean of s_t, given all before, is at most μ0, the chance that W ever reaches 1/α is at most α,
 * however long one looks and whenever one stops (Ville's inequality). The bets λ_t follow Waudby-Smith and Ramdas,
 * "Estimating means of bounded random variables by betting" (2024, section 4): a wealth-weighted mixture of constant
 * bets, which is predictable and bounded, and within log(bets) of the best constant one.
 *
 * Statistics never take money: what is flagged is ranked lower, and audited more.
 */

/** One way to look at margins. */
export interface FloatScale {
  /** Margins are clipped here, in nats. */
  readonly clip: number;
  /** Upper confidence bound on the honest mean of margins by clip; above 0 and below 1. */
  readonly meanMax: number;
}

/**
 * What `calibrate` found for one model and runtime: a fine scale, on which many small margins stand out (a model with
 * other weights), and a coarse one for few large ones (single tokens replaced), on which rounding is next to nothing.
 */
export type FloatLimits = readonly FloatScale[];

/** Chance that an honest provider is ever flagged, in one window of evidence. */
export const flagAlpha = 1e-6;
/** No bet risks more than this part of the wealth on a token that fits. */
const riskMax = 0.75;
/** Constant bets, each half of the one before: alternatives from all wrong down to twice the honest mean. */
const bets = 8;

/**
 * Of one window. Whoever keeps evidence begins a new one from time to time (a day, say): what was gained against one in
 * an honest past would otherwise have to be lost first by a provider that turns.
 */
export interface Evidence {
  readonly tokens: number;
  /** Natural logarithms of the wealth of each constant bet on each scale. */
  readonly logWealths: readonly number[];
  /** The largest natural logarithm of W so far: a flag stays. */
  readonly logMost: number;
}

export const noEvidence: Evidence = { tokens: 0, logWealths: [], logMost: 0 };

/** A margin as a number in [0, 1]; 1 for tokens that the sampling does not allow. */
export function clippedMargin(margin: number, clip: number): number {
  return Math.min(Math.max(0, margin), clip) / clip;
}

/**
 * Evidence after the margins of one more answer, in order. Limits may differ from answer to answer with what was asked,
 * which is known before; only their number of scales stays.
 */
export function withMargins(before: Evidence, margins: readonly number[], limits: FloatLimits): Evidence {
  if (limits.length === 0 || !limits.every(isScale)) throw new RangeError("limits of no calibration");
  const logWealths = limits.flatMap((_, scale) =>
    Array.from({ length: bets }, (__, bet) => before.logWealths[scale * bets + bet] ?? 0),
  );
  let { logMost } = before;
  for (const margin of margins) {
    for (const [scale, { clip, meanMax }] of limits.entries()) {
      const gain = clippedMargin(margin, clip) - meanMax;
      for (let bet = 0; bet < bets; bet++)
        logWealths[scale * bets + bet]! += Math.log1p(betOf(bet, meanMax) * gain);
    }
    logMost = Math.max(logMost, logMean(logWealths));
  }
  return { tokens: before.tokens + margins.length, logWealths, logMost };
}

function isScale({ clip, meanMax }: FloatScale): boolean {
  return meanMax > 0 && meanMax < 1 && clip > 0;
}

function betOf(index: number, meanMax: number): number {
  return (riskMax / meanMax) * 2 ** -index;
}

/** Natural logarithm of W now. */
export function logEvidence({ logWealths }: Evidence): number {
  return logWealths.length === 0 ? 0 : logMean(logWealths);
}

/** Whether W has reached 1/α. */
export function isFlagged({ logMost }: Evidence, alpha: number = flagAlpha): boolean {
  return logMost >= -Math.log(alpha);
}

function logMean(logs: readonly number[]): number {
  const most = Math.max(...logs);
  return most + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - most), 0) / logs.length);
}
