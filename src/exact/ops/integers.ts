/**
 * The integer primitives that every operation is made of (docs/EXACT.md, "Integers"). Wide values are JavaScript
 * numbers that hold integers of at most 2^53: exact, and quick enough for a reference.
 */

/** Bits of |v|: 0 for 0, 1 for 1, 8 for 255. */
export function bitLength(v: number): number {
  const size = Math.abs(v);
  if (size < 2 ** 32) return 32 - Math.clz32(size);
  return 64 - Math.clz32(Math.floor(size / 2 ** 32));
}

/** Clamps to ±(2^bits − 1). */
export function saturate(v: number, bits: number): number {
  const max = 2 ** bits - 1;
  if (v > max) return max;
  // `+ 0` makes −0 an ordinary zero.
  return v < -max ? -max : v + 0;
}

/**
 * v / 2^shift to the nearest integer, halves upwards: (v + 2^(shift − 1)) >> shift. |v| < 2^52; a negative shift
 * multiplies.
 */
export function roundShift(v: number, shift: number): number {
  if (shift <= 0) return v * 2 ** -shift + 0;
  // Beyond 52 nothing of |v| < 2^52 is left; 2^52 itself would round to 1 at 53.
  return shift > 52 ? 0 : Math.floor(v / 2 ** shift + 0.5) + 0;
}

/**
 * `roundShift` into ±(2^bits − 1). Shifts to the left saturate; they only happen with absurd values, but somebody
 * who wants to break a proof would make some.
 */
export function scaleTo(v: number, shift: number, bits: number): number {
  // A shift by more than 31 takes any value but 0 out of range; products with powers of two are exact.
  return saturate(roundShift(v, Math.max(shift, -31)), bits);
}

/** Floor of v / 2^shift, 0 ≤ shift. */
export function floorShift(v: number, shift: number): number {
  return Math.floor(v / 2 ** shift) + 0;
}

/** Floor of the square root, 0 ≤ v < 2^53. */
export function integerSqrt(v: number): number {
  let root = Math.floor(Math.sqrt(v));
  // Both steps are for executors whose square root is not exact; r·r < 2^53 is.
  while (root * root > v) root -= 1;
  while ((root + 1) * (root + 1) <= v) root += 1;
  return root;
}

/** Integers that share one exponent: value i is `mantissas[i] · 2^exponent`. */
export interface Block {
  readonly mantissas: Int16Array;
  readonly exponent: number;
}

/**
 * Rounds integers to a block of `bits`-bit numbers, |mantissa| ≤ 2^(bits − 1) − 1. `exponent` is that of `values`.
 * Symmetric, so that no product of two mantissas overflows where their bit lengths do not say so.
 */
export function toBlock(values: ArrayLike<number>, exponent: number, bits: number): Block {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]!));
  const shift = Math.max(0, bitLength(largest) - (bits - 1));
  const mantissas = new Int16Array(values.length);
  for (let i = 0; i < values.length; i++) mantissas[i] = scaleTo(values[i]!, shift, bits - 1);
  return { mantissas, exponent: exponent + shift };
}
