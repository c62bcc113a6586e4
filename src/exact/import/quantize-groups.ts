/**
 * Four-bit rows: each group of 32 weights has a scale of its own, a multiple of the row's (docs/EXACT.md, "Import"). As in quantize.ts, only
 * operations are used that IEEE 754 defines to the last bit, sums in the order of the columns.
 */
import { groupColumns } from "../model/model.ts";
import { type QuantizedRow, roundHalfAway, roundScale } from "./quantize.ts";

const weightMin = -8;
const weightMax = 7;
const scaleMax = 127;
/** Multipliers have 13 bits: scales took some of the room below 2^52. */
const multiplierBits = 13;
/** Where the largest weight of a group may come to lie: below −8 the others gain what it loses. */
const reaches: readonly number[] = [8, 7.5, 7, 6.5, 6];

/**
 * Rounds a row to four bits, two to a byte of `weights`, and to `scales`. The row becomes what is left of it.
 * @throws SkeinError `invalid_model_file` when weights are absurdly large
 */
export function quantizeGroups(row: Float64Array, weights: Uint8Array, scales: Int8Array): QuantizedRow {
  const groups = Array.from(scales, (_, g) => row.subarray(g * groupColumns, (g + 1) * groupColumns));
  // 1. The best scale of each group, as if any number could be one.
  const wanted = groups.map(bestScale);
  // 2. The row's, so that the largest of them is 127.
  const largest = wanted.reduce((most, scale) => Math.max(most, Math.abs(scale)), 0);
  const rounded = roundScale(largest / scaleMax, multiplierBits);
  if (rounded === null) {
    for (const part of [row, weights, scales]) part.fill(0);
    return { multiplier: 2 ** (multiplierBits - 1), exponent: 0 };
  }
  const unit = rounded.multiplier * 2 ** rounded.exponent;
  // 3. Each group's scale on that grid, and its weights.
  for (const [g, group] of groups.entries()) {
    const below = Math.floor(wanted[g]! / unit);
    const [low, high] = [clamp(below, -scaleMax, scaleMax), clamp(below + 1, -scaleMax, scaleMax)];
    const scale = errorOf(group, high * unit) < errorOf(group, low * unit) ? high : low;
    scales[g] = scale;
    roundGroup(group, scale * unit, weights.subarray((g * groupColumns) / 2));
  }
  return rounded;
}

/**
 * The scale that suits the weights best after one of a few ways to round them; of equals the first. With the best scale
 * for given roundings q the squared error is Σw² − (Σwq)² / Σq².
 */
function bestScale(group: Float64Array): number {
  let largest = 0;
  for (const weight of group) largest = Math.max(largest, Math.abs(weight));
  if (largest === 0) return 0;
  let [best, most] = [0, 0];
  for (const reach of reaches) {
    for (const sign of [1, -1]) {
      const inverse = (sign * reach) / largest;
      let products = 0;
      let squares = 0;
      for (let i = 0; i < group.length; i++) {
        const rounded = clamp(roundHalfAway(group[i]! * inverse), weightMin, weightMax);
        products += group[i]! * rounded;
        squares += rounded * rounded;
      }
      const gain = (products * products) / squares;
      if (gain > most) [best, most] = [products / squares, gain];
    }
  }
  return best;
}

function errorOf(group: Float64Array, scale: number): number {
  let sum = 0;
  for (let i = 0; i < group.length; i++) {
    const error = group[i]! - roundTo(group[i]!, scale) * scale;
    sum += error * error;
  }
  return sum;
}

function roundTo(weight: number, scale: number): number {
  return scale === 0 ? 0 : clamp(roundHalfAway(weight / scale), weightMin, weightMax);
}

function roundGroup(group: Float64Array, scale: number, into: Uint8Array): void {
  for (let i = 0; i < group.length; i += 2) {
    const [low, high] = [roundTo(group[i]!, scale), roundTo(group[i + 1]!, scale)];
    into[i / 2] = (low & 15) | ((high & 15) << 4);
    group[i] = low * scale;
    group[i + 1] = high * scale;
  }
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}
