/** A text as a vector (docs/EXACT.md, "Embeddings"): the last position's output norm, divided by its length, in integers. */
import type { ExactShape, NormWeights } from "./model/model.ts";
import { bitLength, integerSqrt } from "./ops/integers.ts";
import { normToBlock } from "./ops/operations.ts";

/** Fractional bits of a component: each is exactly a 32-bit float. */
export const embeddingFraction = 24;

/**
 * Components with `embeddingFraction` fractional bits, of length 1 together but for rounding; zeros where the norm is all zeros.
 *
 * @param residual of the last position behind the last layer
 */
export function embeddingOf(
  residual: Int32Array,
  outputNorm: NormWeights,
  { normEpsilon }: Pick<ExactShape, "normEpsilon">,
): Int32Array {
  // 1. What the output matrix would see. The block's exponent cancels out in the division.
  const { mantissas } = normToBlock(residual, outputNorm, normEpsilon);
  // 2. Its length, with 26 bits: mantissas have 13 and a sign, so the sum stays below 2^26 · 2^14.
  let sum = 0;
  for (const mantissa of mantissas) sum += mantissa * mantissa;
  if (sum === 0) return new Int32Array(mantissas.length);
  const lift = Math.floor((52 - bitLength(sum)) / 2);
  const root = integerSqrt(sum * 4 ** lift);
  // 3. Each divided by it, to the nearest, halves upwards: below 2^52, since no mantissa is larger than the length.
  return Int32Array.from(mantissas, (mantissa) => {
    const dividend = mantissa * 2 ** (lift + embeddingFraction);
    return Math.floor((2 * dividend + root) / (2 * root));
  });
}
