/**
 * Equalisation: between two matrices, a channel may be scaled up in the first and down in the second without
 * changing the model. Models trained in floating point have channels of very different sizes, and a column that is small beside
 * its neighbours would vanish in its rows' integer grids. Factors are powers of two: they round nothing themselves.
 */
import { floorLog2 } from "./quantize.ts";

/** Beyond this a channel is as good as dead on one side. */
const shiftMax = 12;
/** Factors of two are ordinary, and 14-bit activations have room for them. */
const shiftMin = 2;

/**
 * For each channel the power of two, as an exponent, by which its producer grows and its consumer shrinks, so that
 * both get about the same size: 2^s ≈ √(consumer / producer).
 */
export function equalizingShifts(producerSizes: Float64Array, consumerSizes: Float64Array): Int32Array {
  const shifts = producerSizes.map((producer, i) => {
    const consumer = consumerSizes[i]!;
    if (!(producer > 0) || !(consumer > 0)) return 0;
    // The nearest integer to half the binary logarithm: ratio · 2 lies within [4^s, 4^(s + 1)).
    const shift = Math.floor(floorLog2((consumer / producer) * 2) / 2);
    return Math.min(shiftMax, Math.max(-shiftMax, shift));
  });
  const middle = medianOf(shifts);
  // Only differences between channels matter: what they have in common, scales of rows take up.
  return Int32Array.from(shifts, (shift) => (Math.abs(shift - middle) < shiftMin ? 0 : shift - middle));
}

function medianOf(values: Float64Array): number {
  const sorted = values.toSorted();
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/**
 * Adds the squares of a matrix's rows to the sizes of its outputs, as if inputs were independent and as large as
 * `inputSizes` says (weights of the norm before it).
 */
export function addRowSquares(
  rows: Float32Array,
  inputSizes: Float64Array,
  into: Float64Array,
  firstRow: number,
): void {
  const columns = inputSizes.length;
  for (let row = 0; row * columns < rows.length; row++) {
    let sum = 0;
    for (let i = 0; i < columns; i++) {
      const size = rows[row * columns + i]! * inputSizes[i]!;
      sum += size * size;
    }
    into[firstRow + row]! += sum;
  }
}

/** Adds the squares of a matrix's columns to the sizes of its inputs. */
export function addColumnSquares(rows: Float32Array, into: Float64Array): void {
  const columns = into.length;
  for (let i = 0; i < rows.length; i++) into[i % columns]! += rows[i]! * rows[i]!;
}

/** Lengths of groups of channels that share a factor; `groupOf(channel)` numbers the groups from 0. */
export function groupSizes(
  squares: Float64Array,
  groups: number,
  groupOf: (channel: number) => number,
): Float64Array {
  const sums = new Float64Array(groups);
  for (const [channel, square] of squares.entries()) sums[groupOf(channel)]! += square;
  return sums.map((sum) => Math.sqrt(sum));
}
