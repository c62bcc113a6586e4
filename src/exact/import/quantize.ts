/**
 * From floating-point weights to integers. Only additions, products, quotients, square roots and roundings of doubles
 * are used: IEEE 754 defines each of them to the last bit, so that everybody gets the same model from the same file.
 */
import type { NormWeights } from "../model/model.ts";
import { SkeinError } from "../../util/errors.ts";

const weightMax = 127;
/** Multipliers have 15 bits: their products with the longest sums stay below 2^52. */
const multiplierBits = 15;
const normMantissaBits = 23;
/** Rows with smaller weights count as zero, larger ones are refused: exponents must fit a byte. */
const exponentMin = -126;
const exponentMax = 63;

/** A row of a matrix: weight k is `weights[k] · multiplier · 2^exponent`. */
export interface QuantizedRow {
  readonly multiplier: number;
  readonly exponent: number;
}

/**
 * Rounds a row to −127 … 127 times a scale, into `into`. The scale is rounded first and the weights to its grid, so
 * that its own rounding costs nothing.
 * @throws SkeinError `invalid_model_file` when weights are absurdly large
 */
export function quantizeRow(row: Float64Array, into: Int8Array): QuantizedRow {
  let largest = 0;
  for (const weight of row) largest = Math.max(largest, Math.abs(weight));
  const scale = roundScale(largest / weightMax, multiplierBits);
  if (scale === null) {
    into.fill(0);
    return { multiplier: 2 ** (multiplierBits - 1), exponent: 0 };
  }
  const step = scale.multiplier * 2 ** scale.exponent;
  for (let i = 0; i < row.length; i++) {
    into[i] = Math.min(weightMax, Math.max(-weightMax, roundHalfAway(row[i]! / step)));
  }
  return scale;
}

/** A scale ≥ 0 as a number of `bits` bits times a power of two; null where it counts as zero. */
export function roundScale(scale: number, bits: number): QuantizedRow | null {
  const exponent = floorLog2(scale) - (bits - 1);
  if (!(scale > 0) || exponent < exponentMin) return null;
  if (exponent > exponentMax) throw tooLarge(scale);
  const multiplier = roundHalfAway(scale / 2 ** exponent);
  // Just below a power of two the rounding may reach it.
  return multiplier < 2 ** bits
    ? { multiplier, exponent }
    : { multiplier: multiplier / 2, exponent: exponent + 1 };
}

/** Norm weights as 23-bit numbers that share one exponent. */
export function quantizeNorm(weights: Float64Array): NormWeights {
  let largest = 0;
  for (const weight of weights) largest = Math.max(largest, Math.abs(weight));
  const exponent = largest > 0 ? Math.max(exponentMin, floorLog2(largest) + 1 - normMantissaBits) : 0;
  if (exponent > exponentMax) throw tooLarge(largest);
  const max = 2 ** normMantissaBits - 1;
  const mantissas = Int32Array.from(weights, (weight) =>
    Math.min(max, Math.max(-max, roundHalfAway(weight / 2 ** exponent))),
  );
  return { mantissas, exponent };
}

/** Fixed-point numbers with `fraction` fractional bits, within ±(2^bits − 1). */
export function quantizeBias(bias: Float64Array, fraction: number, bits: number): Int32Array {
  const max = 2 ** bits - 1;
  return Int32Array.from(bias, (value) => {
    const fixed = roundHalfAway(value * 2 ** fraction);
    if (Math.abs(fixed) > max) throw tooLarge(value);
    return fixed;
  });
}

/** Largest e with 2^e ≤ x, from the number's own bits: no logarithm that libraries round differently. */
export function floorLog2(x: number): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  const biased = (view.getUint16(0) >> 4) & 0x7ff;
  return biased === 0 ? -1023 : biased - 1023;
}

/** To the nearest integer. Not ⌊x + ½⌋: that sum is rounded itself, and makes 1 of the number below a half. */
export function roundHalfAway(x: number): number {
  const size = Math.abs(x);
  const whole = Math.floor(size);
  const rounded = size - whole < 0.5 ? whole : whole + 1;
  return x < 0 ? 0 - rounded : rounded;
}

function tooLarge(value: number): SkeinError {
  return new SkeinError(
    "invalid_model_file",
    `The model has a weight of size ${value}; that is no usable model.`,
    {
      hint: "The file may be damaged, or of a kind that is read wrongly. Try another file of the model.",
    },
  );
}
