/**
 * Prices and the one function that computes every charge. Amounts are integers in nanoUSD
 * (1 USD = 1,000,000,000 nanoUSD), so that a single token of a cheap model still has a price.
 */
export const nanoUsdPerUsd = 1_000_000_000n;

export interface PriceSheet {
  /** nanoUSD per million input (prompt) tokens. */
  readonly inputPerMillionTokens: bigint;
  /** nanoUSD per million output tokens. */
  readonly outputPerMillionTokens: bigint;
  /** nanoUSD per second between the start of prefill and the last token. */
  readonly perSecond: bigint;
}

export interface Consumption {
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Whole milliseconds of engine time. */
  readonly durationMs: number;
}

export const freePriceSheet: PriceSheet = {
  inputPerMillionTokens: 0n,
  outputPerMillionTokens: 0n,
  perSecond: 0n,
};

/**
 * The charge in nanoUSD: ⌈(in·pIn + out·pOut + ms·pSec·1000) / 10⁶⌉. One rounding, upwards, at the
 * very end, so that splitting a sum can never make it cheaper by more than it could cost to round.
 *
 * @throws RangeError when a count is negative or not an integer.
 */
export function fee(price: PriceSheet, consumption: Consumption): bigint {
  const millionths =
    count(consumption.inputTokens) * price.inputPerMillionTokens +
    count(consumption.outputTokens) * price.outputPerMillionTokens +
    count(consumption.durationMs) * price.perSecond * 1000n;
  return (millionths + 999_999n) / 1_000_000n;
}

function count(value: number): bigint {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`not a count: ${value}`);
  }
  return BigInt(value);
}

/** Parses a decimal amount of USD ("0.15") exactly into nanoUSD; null when it is not one. */
export function usdToNano(text: string): bigint | null {
  const match = /^(\d{1,9})(?:\.(\d{1,9}))?$/.exec(text.trim());
  if (match === null) return null;
  return BigInt(match[1]!) * nanoUsdPerUsd + BigInt((match[2] ?? "").padEnd(9, "0"));
}

/** An amount as decimal USD without trailing zeros ("0.00000123"). */
export function nanoToUsd(amount: bigint): string {
  const sign = amount < 0n ? "-" : "";
  const absolute = amount < 0n ? -amount : amount;
  const fraction = (absolute % nanoUsdPerUsd).toString().padStart(9, "0").replace(/0+$/, "");
  const whole = (absolute / nanoUsdPerUsd).toString();
  return sign + (fraction === "" ? whole : `${whole}.${fraction}`);
}
