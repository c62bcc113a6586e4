/** Everything between the matrices: norms, blocks, rotation, gates. One token at a time. */
import { bitLength, clamp, integerSqrt, roundShift, scaleTo } from "./integers";

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
  let bits: i32 = 0;
  for (let i: usize = 0; i < 4 * length; i += 4) {
    const v = load<i32>(x + i);
    // The sign's bits become zero; a negative power of two loses one bit, which `bitLength` would count.
    bits |= v < 0 ? -v : v;
  }
  return 32 - clz(bits);
}

let normFactor: i64 = 0;
let normShift: i32 = 0;

/** Finds factor and shift such that x · factor / 2^shift is x / rms(x) with 20 fractional bits; see `rmsNorm`. */
function findNorm(x: usize, length: usize, epsilon: i64, root: i64): void {
  const drop = max(0, bitsOf(x, length) - 19);
  let sum = 2 * drop > 62 ? 0 : epsilon >> ((2 * drop) as i64);
  for (let i: usize = 0; i < 4 * length; i += 4) {
    const v = (load<i32>(x + i) >> drop) as i64;
    sum += v * v;
  }
  sum = max(1, sum);
  const lift = max(0, ((52 - bitLength(sum)) / 2) * 2);
  const inverse = (root << 22) / integerSqrt(sum << (lift as i64));
  const trim = max(0, bitLength(inverse) - 21);
  normFactor = inverse >> (trim as i64);
  normShift = 22 - trim - lift / 2 + drop;
}

/** RMSNorm of a residual vector into a block of 14 bits. `wide` holds `length` 64-bit numbers. Returns the exponent. */
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
  const factor = normFactor;
  const shift = normShift;
  let bits: i64 = 0;
  for (let i: usize = 0; i < length; i++) {
    const unit = scaleTo((load<i32>(x + 4 * i) as i64) * factor, shift, 0x1fffffff);
    const v = unit * (load<i32>(mantissas + 4 * i) as i64);
    store<i64>(wide + 8 * i, v);
    bits |= v < 0 ? -v : v;
  }
  return exponent - 20 + narrow(wide, length, bitLength(bits), 14, into);
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
    const unit = scaleTo((load<i32>(x + i) as i64) * normFactor, normShift, 0x1fffffff);
    store<i32>(x + i, scaleTo(unit * (load<i32>(mantissas + i) as i64), shift, 0x3ffffff) as i32);
  }
}

/** Rounds 64-bit numbers of `bits` bits to `keep`-bit mantissas; returns by how much their exponent grows. */
function narrow(wide: usize, length: usize, bits: i32, keep: i32, into: usize): i32 {
  const shift = max(0, bits - (keep - 1));
  const max_ = ((1 << (keep - 1)) - 1) as i64;
  for (let i: usize = 0; i < length; i++) {
    store<i16>(into + 2 * i, clamp(roundShift(load<i64>(wide + 8 * i), shift), max_) as i16);
  }
  return shift;
}

/** Rounds 32-bit numbers to `keep`-bit mantissas; returns by how much their exponent grows. */
export function toBlock(x: usize, length: usize, keep: i32, into: usize): i32 {
  const shift = max(0, bitsOf(x, length) - (keep - 1));
  const max_ = ((1 << (keep - 1)) - 1) as i64;
  for (let i: usize = 0; i < length; i++) {
    store<i16>(into + 2 * i, clamp(roundShift(load<i32>(x + 4 * i) as i64, shift), max_) as i16);
  }
  return shift;
}

/** Rotates pairs (i, i + pairs) in place; `angles` holds cosine and sine of each pair with 15 fractional bits. */
export function rotate(x: usize, pairs: usize, angles: usize): void {
  for (let i: usize = 0; i < 4 * pairs; i += 4) {
    const cos = load<i32>(angles + 2 * i) as i64;
    const sin = load<i32>(angles + 2 * i, 4) as i64;
    const a = load<i32>(x + i) as i64;
    const b = load<i32>(x + i + 4 * pairs) as i64;
    store<i32>(x + i, scaleTo(a * cos - b * sin, 15, 0x7ffffff) as i32);
    store<i32>(x + i + 4 * pairs, scaleTo(b * cos + a * sin, 15, 0x7ffffff) as i32);
  }
}

/** SwiGLU of two vectors with 12 fractional bits into a block of 14 bits. Returns the exponent. */
export function gatedBlock(
  gate: usize,
  up: usize,
  length: usize,
  sigmoid: usize,
  into: usize,
  wide: usize,
): i32 {
  let bits: i64 = 0;
  for (let i: usize = 0; i < length; i++) {
    const g = load<i32>(gate + 4 * i);
    const index = (g < 0 ? -g : g) >> 4;
    const positive = index < 4096 ? load<i32>(sigmoid + 4 * index) : 32768;
    const product = (g as i64) * ((g < 0 ? 32768 - positive : positive) as i64);
    const v = clamp(roundShift(product, 15), 0x3ffffff) * (load<i32>(up + 4 * i) as i64);
    store<i64>(wide + 8 * i, v);
    bits |= v < 0 ? -v : v;
  }
  return -24 + narrow(wide, length, bitLength(bits), 14, into);
}
