/** Everything between the matrices: norms, blocks, rotation, gates. One token at a time; lengths are multiples of eight. */
import { areUsual, bitsOfLargest, clampAll, highDoubles, largerOf, power } from "./doubles";
import { bitLength, clamp, integerSqrt, scaleTo } from "./integers";

/** Most negative and largest residual: ±(2^31 − 1). */
const residualMax: i64 = 0x7fffffff;

/** x[i] += y[i], saturating. */
export function addTo(x: usize, y: usize, length: usize): void {
  for (let i: usize = 0; i < 4 * length; i += 4) {
    const sum = (load<i32>(x + i) as i64) + (load<i32>(y + i) as i64);
    store<i32>(x + i, clamp(sum, residualMax) as i32);
  }
}

/**
 * One row of the embedding as residual values with 14 fractional bits. `weights` are its first sixteen; the next ones
 * lie 64 bytes further, see `MatrixRef`.
 */
export function embed(weights: usize, multiplier: i32, exponent: i32, columns: usize, into: usize): void {
  const shift = -(exponent + 14);
  for (let i: usize = 0; i < columns; i++) {
    const weight = load<i8>(weights + 64 * (i >> 4) + (i & 15)) as i64;
    store<i32>(into + 4 * i, scaleTo(weight * (multiplier as i64), shift, residualMax) as i32);
  }
}

/** Bits of the largest size among 32-bit numbers. */
function bitsOf(x: usize, length: usize): i32 {
  // The sign's bits become zero; a negative power of two loses one bit, which `bitLength` would count.
  let bits = i32x4.splat(0);
  for (let i: usize = 0; i < 4 * length; i += 16) bits = v128.or(bits, i32x4.abs(v128.load(x + i)));
  const half = v128.or(bits, v128.shuffle<i64>(bits, bits, 1, 1));
  return 32 - (clz(i32x4.extract_lane(half, 0) | i32x4.extract_lane(half, 1)) as i32);
}

let normFactor: i64 = 0;
let normShift: i32 = 0;

/** Finds factor and shift such that x · factor / 2^shift is x / rms(x) with 20 fractional bits; see `rmsNorm`. */
function findNorm(x: usize, length: usize, epsilon: i64, root: i64): void {
  const drop = max(0, bitsOf(x, length) - 19);
  let sum = 2 * drop > 62 ? 0 : epsilon >> ((2 * drop) as i64);
  let squares = i64x2.splat(0);
  for (let i: usize = 0; i < 4 * length; i += 16) {
    const v = i32x4.shr_s(v128.load(x + i), drop);
    squares = i64x2.add(squares, i64x2.extmul_low_i32x4_s(v, v));
    squares = i64x2.add(squares, i64x2.extmul_high_i32x4_s(v, v));
  }
  sum = max(1, sum + i64x2.extract_lane(squares, 0) + i64x2.extract_lane(squares, 1));
  const lift = max(0, ((52 - bitLength(sum)) / 2) * 2);
  const inverse = (root << 22) / integerSqrt(sum << (lift as i64));
  const trim = max(0, bitLength(inverse) - 21);
  normFactor = inverse >> (trim as i64);
  normShift = 22 - trim - lift / 2 + drop;
}

/** RMSNorm of a residual vector into a block of 14 bits. `wide` holds `length` doubles. Returns the exponent. */
export function normToBlock(
  x: usize,
  length: usize,
  mantissas: usize,
  exponent: i32,
  epsilon: i64,
  root: i64,
  into: usize,
  wide: usize,
): i32 {
  findNorm(x, length, epsilon, root);
  let largest = f64x2.splat(0);
  const isUsual = areUsual(i32x4.splat(normShift));
  const factor = f64x2.splat(normFactor as f64);
  const half = f64x2.splat(power(normShift - 1));
  const scale = f64x2.splat(power(-normShift));
  const max = i32x4.splat(0x1fffffff);
  for (let i: usize = 0; i < 4 * length; i += 16) {
    let unit = v128.load(x + i);
    if (isUsual) {
      const low = f64x2.mul(f64x2.convert_low_i32x4_s(unit), factor);
      const high = f64x2.mul(highDoubles(unit), factor);
      unit = clampAll(f64x2.mul(f64x2.add(low, half), scale), f64x2.mul(f64x2.add(high, half), scale), max);
    } else unit = normUnits(x + i);
    const mantissa = v128.load(mantissas + i);
    const first = f64x2.mul(f64x2.convert_low_i32x4_s(unit), f64x2.convert_low_i32x4_s(mantissa));
    const last = f64x2.mul(highDoubles(unit), highDoubles(mantissa));
    v128.store(wide + 2 * i, first);
    v128.store(wide + 2 * i, last, 16);
    largest = largerOf(largerOf(largest, first), last);
  }
  return exponent - 20 + narrow(wide, length, bitsOfLargest(largest), 14, into);
}

/** Four numbers of a vector by `normFactor` and `normShift`, whatever these are. */
function normUnits(x: usize): v128 {
  return i32x4(unitOf(x), unitOf(x + 4), unitOf(x + 8), unitOf(x + 12));
}

function unitOf(x: usize): i32 {
  return scaleTo((load<i32>(x) as i64) * normFactor, normShift, 0x1fffffff) as i32;
}

/** RMSNorm of one head in place, 16 fractional bits before and after. */
export function normHead(
  x: usize,
  length: usize,
  mantissas: usize,
  exponent: i32,
  epsilon: i64,
  root: i64,
): void {
  findNorm(x, length, epsilon, root);
  const shift = 20 - exponent - 16;
  for (let i: usize = 0; i < 4 * length; i += 4) {
    const unit = unitOf(x + i) as i64;
    store<i32>(x + i, scaleTo(unit * (load<i32>(mantissas + i) as i64), shift, 0x3ffffff) as i32);
  }
}

/** Rounds doubles of `bits` bits to `keep`-bit mantissas; returns by how much their exponent grows. */
function narrow(wide: usize, length: usize, bits: i32, keep: i32, into: usize): i32 {
  const shift = max(0, bits - (keep - 1));
  const most = i32x4.splat((1 << (keep - 1)) - 1);
  const half = f64x2.splat(shift == 0 ? 0 : power(shift - 1));
  const scale = f64x2.splat(power(-shift));
  for (let i: usize = 0; i < length; i += 8, wide += 64, into += 16) {
    const a = f64x2.mul(f64x2.add(v128.load(wide), half), scale);
    const b = f64x2.mul(f64x2.add(v128.load(wide, 16), half), scale);
    const c = f64x2.mul(f64x2.add(v128.load(wide, 32), half), scale);
    const d = f64x2.mul(f64x2.add(v128.load(wide, 48), half), scale);
    v128.store(into, i16x8.narrow_i32x4_s(clampAll(a, b, most), clampAll(c, d, most)));
  }
  return shift;
}

/** Rounds 32-bit numbers to `keep`-bit mantissas; returns by how much their exponent grows. */
export function toBlock(x: usize, length: usize, keep: i32, into: usize): i32 {
  const shift = max(0, bitsOf(x, length) - (keep - 1));
  const max_ = i32x4.splat((1 << (keep - 1)) - 1);
  for (let i: usize = 0; i < length; i += 8, x += 32, into += 16) {
    const low = roundAll(v128.load(x), shift, max_);
    const high = roundAll(v128.load(x, 16), shift, max_);
    v128.store(into, i16x8.narrow_i32x4_s(low, high));
  }
  return shift;
}

/** `roundShift` within ±max; by two shifts, so that nothing is beyond 32 bits in between. */
function roundAll(x: v128, shift: i32, max: v128): v128 {
  if (shift > 0) x = i32x4.shr_s(i32x4.add(i32x4.shr_s(x, shift - 1), i32x4.splat(1)), 1);
  return i32x4.max_s(i32x4.min_s(x, max), i32x4.neg(max));
}

/** Rotates pairs (i, i + pairs) in place, a multiple of four; `angles` holds cosine and sine of each pair with 15 fractional bits. */
export function rotate(x: usize, pairs: usize, angles: usize): void {
  const half = f64x2.splat(power(14));
  const scale = f64x2.splat(power(-15));
  const max = i32x4.splat(0x7ffffff);
  for (const end = x + 4 * pairs; x < end; x += 16, angles += 32) {
    const first = v128.load(angles);
    const last = v128.load(angles, 16);
    const cos = v128.shuffle<i32>(first, last, 0, 2, 4, 6);
    const sin = v128.shuffle<i32>(first, last, 1, 3, 5, 7);
    const a = v128.load(x);
    const b = v128.load(x + 4 * pairs);
    const aLow = f64x2.convert_low_i32x4_s(a);
    const bLow = f64x2.convert_low_i32x4_s(b);
    const cosLow = f64x2.convert_low_i32x4_s(cos);
    const sinLow = f64x2.convert_low_i32x4_s(sin);
    const aHigh = highDoubles(a);
    const bHigh = highDoubles(b);
    const cosHigh = highDoubles(cos);
    const sinHigh = highDoubles(sin);
    let low = f64x2.add(f64x2.sub(f64x2.mul(aLow, cosLow), f64x2.mul(bLow, sinLow)), half);
    let high = f64x2.add(f64x2.sub(f64x2.mul(aHigh, cosHigh), f64x2.mul(bHigh, sinHigh)), half);
    v128.store(x, clampAll(f64x2.mul(low, scale), f64x2.mul(high, scale), max));
    low = f64x2.add(f64x2.add(f64x2.mul(bLow, cosLow), f64x2.mul(aLow, sinLow)), half);
    high = f64x2.add(f64x2.add(f64x2.mul(bHigh, cosHigh), f64x2.mul(aHigh, sinHigh)), half);
    v128.store(x + 4 * pairs, clampAll(f64x2.mul(low, scale), f64x2.mul(high, scale), max));
  }
}

/**
 * SwiGLU of two vectors with 12 fractional bits into a block of 14 bits. Returns the exponent. `sigmoid` has one entry more than the
 * specification's table, for everything beyond it. `wide` holds `length` doubles.
 */
export function gatedBlock(
  gate: usize,
  up: usize,
  length: usize,
  sigmoid: usize,
  into: usize,
  wide: usize,
): i32 {
  let largest = f64x2.splat(0);
  const half = f64x2.splat(power(14));
  const scale = f64x2.splat(power(-15));
  const max = i32x4.splat(0x3ffffff);
  for (let i: usize = 0; i < 4 * length; i += 16) {
    const g = v128.load(gate + i);
    const sigma = sigmoidOf(g, sigmoid);
    const low = f64x2.mul(f64x2.convert_low_i32x4_s(g), f64x2.convert_low_i32x4_s(sigma));
    const high = f64x2.mul(highDoubles(g), highDoubles(sigma));
    const v = clampAll(f64x2.mul(f64x2.add(low, half), scale), f64x2.mul(f64x2.add(high, half), scale), max);
    const u = v128.load(up + i);
    const first = f64x2.mul(f64x2.convert_low_i32x4_s(v), f64x2.convert_low_i32x4_s(u));
    const last = f64x2.mul(highDoubles(v), highDoubles(u));
    v128.store(wide + 2 * i, first);
    v128.store(wide + 2 * i, last, 16);
    largest = largerOf(largerOf(largest, first), last);
  }
  return -24 + narrow(wide, length, bitsOfLargest(largest), 14, into);
}

/** With 15 fractional bits, of four numbers; below zero it is 1 less that of the size. */
function sigmoidOf(g: v128, sigmoid: usize): v128 {
  const index = i32x4.min_u(i32x4.shr_u(i32x4.abs(g), 4), i32x4.splat(4096));
  let entries = v128.load32_zero(sigmoid + 4 * (i32x4.extract_lane(index, 0) as usize));
  entries = v128.load32_lane(sigmoid + 4 * (i32x4.extract_lane(index, 1) as usize), entries, 1);
  entries = v128.load32_lane(sigmoid + 4 * (i32x4.extract_lane(index, 2) as usize), entries, 2);
  entries = v128.load32_lane(sigmoid + 4 * (i32x4.extract_lane(index, 3) as usize), entries, 3);
  const sign = i32x4.shr_s(g, 31);
  return i32x4.add(i32x4.sub(v128.xor(entries, sign), sign), v128.and(sign, i32x4.splat(32768)));
}
