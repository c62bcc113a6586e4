/**
 * Powers and logarithms as the IEEE 754 double nearest to the true value. A model's identity depends on them, and no two
 * mathematical libraries round them alike.
 */
import { fixedPoint } from "../util/fixed-point.ts";

/**
 * Far more than it takes to tell on which side of the middle between two doubles a value lies: logarithms of doubles
 * come no nearer to one than 2^−118 (Lefèvre, Muller 2001).
 */
const precision = 256n;
const { one, ln2, expMinus, ln } = fixedPoint(precision);
const mantissaBits = 53;

/** The double nearest to base^(−numerator / denominator), base > 1 and finite, numerator and denominator whole numbers. */
export function nearestInversePower(base: number, numerator: number, denominator: number): number {
  const exponent = (naturalLogarithm(base) * BigInt(numerator)) / BigInt(denominator);
  const halvings = exponent / ln2;
  return nearest(expMinus(exponent - halvings * ln2), -Number(halvings));
}

/** The double nearest to ln(x); like `Math.log` for everything that has no logarithm. */
export function nearestLog(x: number): number {
  if (!(x > 0) || x === Number.POSITIVE_INFINITY) return Math.log(x);
  const logarithm = naturalLogarithm(x);
  return logarithm < 0n ? -nearest(-logarithm, 0) : nearest(logarithm, 0);
}

/** Of a positive, finite double. */
function naturalLogarithm(x: number): bigint {
  // x = mantissa · 2^exponent, both whole numbers.
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  const bits = view.getBigUint64(0);
  const biased = bits >> 52n;
  const fraction = bits & (2n ** 52n - 1n);
  const mantissa = biased === 0n ? fraction : fraction + 2n ** 52n;
  const exponent = (biased === 0n ? 1n : biased) - 1075n;
  // Shifted such that nothing is lost: mantissas are below 2^53.
  return ln(mantissa * (one >> 53n)) + (exponent + 53n) * ln2;
}

/** value · 2^exponent, value ≥ 0 in fixed point, to the nearest double; not for results below 2^−1022. */
function nearest(value: bigint, exponent: number): number {
  if (value === 0n) return 0;
  const drop = BigInt(Math.max(0, value.toString(2).length - mantissaBits));
  const rounded = drop === 0n ? value : (value + (1n << (drop - 1n))) >> drop;
  return Number(rounded) * 2 ** (Number(drop - precision) + exponent);
}
