/**
 * Matrices times blocks of activations. Lanes of 32 bits hold 2,064 products of a weight (2^7) and an activation
 * (2^13): 8,192 columns over four lanes never overflow; longer rows go in pieces.
 */
import { clamp, scaleTo, sumOfLanes } from "./integers";
import { MatrixRef, tileRows } from "./tiles";
import { multiplyWidened } from "./widened";

/** Columns whose products four lanes hold. */
const laneColumns: usize = 8192;
/** So many tokens are quicker with weights that are widened anew for every two of them. */
const tokensDirect: usize = 8;

/**
 * y[t][j] = row j of the matrix times x[t], for `tokens` blocks of `columns` 16-bit mantissas. `scratch` holds
 * 32 KiB and 16 · tokens 64-bit sums. Results are 32-bit numbers, `yStride` apart.
 */
export function matmul(
  matrix: MatrixRef,
  x: usize,
  xExponents: usize,
  tokens: usize,
  y: usize,
  yStride: usize,
  fraction: i32,
  max: i32,
  scratch: usize,
): void {
  if (tokens == 1) return matvec(matrix, x, load<i32>(xExponents), y, fraction, max);
  if (tokens <= tokensDirect)
    return direct(matrix, x, xExponents, tokens, y, yStride, fraction, max, scratch);
  multiplyWidened(matrix, x, xExponents, tokens, y, yStride, fraction, max, scratch, false);
}

/** Some tokens: weights are widened on their way into registers, for two tokens at a time. */
function direct(
  matrix: MatrixRef,
  x: usize,
  xExponents: usize,
  tokens: usize,
  y: usize,
  yStride: usize,
  fraction: i32,
  max: i32,
  sums: usize,
): void {
  const columns = matrix.columns;
  const stride: usize = 2 * columns;
  for (let row: usize = 0; row < matrix.rows; row += tileRows) {
    const rows = min(tileRows, matrix.rows - row);
    memory.fill(sums, 0, tokens * tileRows * 8);
    for (let from: usize = 0; from < columns; from += laneColumns) {
      const weights = matrix.weights + row * columns + tileRows * from;
      const count = min(laneColumns, columns - from);
      let t: usize = 0;
      let at = x + 2 * from;
      let into = sums;
      for (; t + 2 <= tokens; t += 2, at += 2 * stride, into += 16 * tileRows) {
        addFourByTwo(weights, at, stride, count, into);
      }
      if (t < tokens) addFourByOne(weights, at, count, into);
    }
    for (let j: usize = 0; j < rows; j++) {
      for (let t: usize = 0; t < tokens; t++) {
        const exponent = load<i32>(xExponents + 4 * t);
        const sum = load<i64>(sums + 8 * (tileRows * t + j));
        store<i32>(y + 4 * (t * yStride + row + j), finish(matrix, row + j, sum, exponent + fraction, max));
      }
    }
  }
}

/** Four rows times two tokens. */
function addFourByTwo(weights: usize, x: usize, xStride: usize, columns: usize, sums: usize): void {
  let a0 = i32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  const end = x + 2 * columns;
  // Eight columns of each row, then the next eight.
  for (let second: usize = 0; x < end; x += 16, weights += 8 + 48 * second, second ^= 1) {
    const xa = v128.load(x);
    const xb = v128.load(x + xStride);
    let w = v128.load8x8_s(weights);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(xa, w));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(xb, w));
    w = v128.load8x8_s(weights, 16);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(xa, w));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(xb, w));
    w = v128.load8x8_s(weights, 32);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(xa, w));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(xb, w));
    w = v128.load8x8_s(weights, 48);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(xa, w));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(xb, w));
  }
  addTo(sums, a0);
  addTo(sums + 8, a1);
  addTo(sums + 16, a2);
  addTo(sums + 24, a3);
  addTo(sums + 32, b0);
  addTo(sums + 40, b1);
  addTo(sums + 48, b2);
  addTo(sums + 56, b3);
}

/** Four rows times one token. */
function addFourByOne(weights: usize, x: usize, columns: usize, sums: usize): void {
  let a0 = i32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  const end = x + 2 * columns;
  for (; x < end; x += 32, weights += 64) {
    const low = v128.load(x);
    const high = v128.load(x, 16);
    a0 = addDot(a0, weights, low, high);
    a1 = addDot(a1, weights + 16, low, high);
    a2 = addDot(a2, weights + 32, low, high);
    a3 = addDot(a3, weights + 48, low, high);
  }
  addTo(sums, a0);
  addTo(sums + 8, a1);
  addTo(sums + 16, a2);
  addTo(sums + 24, a3);
}

/** From the sum of products to a fixed-point number. */
export function finish(matrix: MatrixRef, row: usize, sum: i64, exponent: i32, max: i32): i32 {
  const multiplier = load<i16>(matrix.multipliers + 2 * row) as i64;
  const shift = -(exponent + (load<i8>(matrix.exponents + row) as i32));
  const value = scaleTo(sum * multiplier, shift, max as i64);
  if (matrix.bias == 0) return value as i32;
  return clamp(value + (load<i32>(matrix.bias + 4 * row) as i64), max as i64) as i32;
}

/** A piece of a tile as 16-bit numbers: eight columns of each row, then the next eight. */
export function widenRows(matrix: MatrixRef, row: usize, from: usize, columns: usize, into: usize): void {
  let weights = matrix.weights + row * matrix.columns + tileRows * from;
  const end = into + 2 * tileRows * columns;
  for (let to = into; to < end; to += 128, weights += 64) {
    widenRow(weights, to);
    widenRow(weights + 16, to + 16);
    widenRow(weights + 32, to + 32);
    widenRow(weights + 48, to + 48);
  }
}

/** Sixteen columns. */
function widenRow(weights: usize, to: usize): void {
  v128.store(to, v128.load8x8_s(weights));
  v128.store(to, v128.load8x8_s(weights, 8), 64);
}

function addTo(sum: usize, lanes: v128): void {
  store<i64>(sum, load<i64>(sum) + sumOfLanes(lanes));
}

/** One token: each weight is used once, so that reading them is all that counts. */
function matvec(matrix: MatrixRef, x: usize, xExponent: i32, y: usize, fraction: i32, max: i32): void {
  const columns = matrix.columns;
  const exponent = xExponent + fraction;
  let weights = matrix.weights;
  for (let row: usize = 0; row < matrix.rows; row += tileRows) {
    let s0: i64 = 0;
    let s1: i64 = 0;
    let s2: i64 = 0;
    let s3: i64 = 0;
    for (let from: usize = 0; from < columns; from += laneColumns) {
      let a0 = i32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      let at = x + 2 * from;
      const end = at + 2 * min(laneColumns, columns - from);
      for (; at < end; at += 32, weights += 64) {
        const low = v128.load(at);
        const high = v128.load(at, 16);
        a0 = addDot(a0, weights, low, high);
        a1 = addDot(a1, weights + 16, low, high);
        a2 = addDot(a2, weights + 32, low, high);
        a3 = addDot(a3, weights + 48, low, high);
      }
      s0 += sumOfLanes(a0);
      s1 += sumOfLanes(a1);
      s2 += sumOfLanes(a2);
      s3 += sumOfLanes(a3);
    }
    const rows = matrix.rows - row;
    const to = y + 4 * row;
    store<i32>(to, finish(matrix, row, s0, exponent, max));
    if (rows > 1) store<i32>(to, finish(matrix, row + 1, s1, exponent, max), 4);
    if (rows > 2) store<i32>(to, finish(matrix, row + 2, s2, exponent, max), 8);
    if (rows > 3) store<i32>(to, finish(matrix, row + 3, s3, exponent, max), 12);
  }
}

/** Adds sixteen weights times sixteen activations: at most 2^22 a lane. Widening while loading spares shuffles. */
function addDot(sum: v128, weights: usize, low: v128, high: v128): v128 {
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.load8x8_s(weights), low));
  return i32x4.add(sum, i32x4.dot_i16x8_s(v128.load8x8_s(weights, 8), high));
}
