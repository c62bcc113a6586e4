/**
 * Matrices times blocks of activations. Lanes of 32 bits hold 2,064 products of a weight (2^7) and an activation
 * (2^13): 8,192 columns over four lanes never overflow; longer rows go in pieces.
 */
import { clamp, scaleTo, sumOfLanes } from "./integers";

/** Columns summed in 32-bit lanes; smaller than the bound, so that weights and activations of a piece stay in cache. */
const pieceColumns: usize = 2048;
/** Rows computed together: they share the loads of activations. */
const tileRows: usize = 4;

/** The parts of a matrix in memory: see `Matrix` in model/model.ts. `bias` may be 0. */
@unmanaged
export class MatrixRef {
  weights: usize;
  multipliers: usize;
  exponents: usize;
  bias: usize;
  rows: usize;
  columns: usize;
}

/**
 * y[t][j] = row j of the matrix times x[t], for `tokens` blocks of `columns` 16-bit mantissas. `scratch` holds
 * 4 · 2048 16-bit weights and 4 · tokens 64-bit sums. Results are 32-bit numbers, `yStride` apart.
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
  const sums = scratch + 2 * tileRows * pieceColumns;
  for (let row: usize = 0; row < matrix.rows; row += tileRows) {
    const rows = min(tileRows, matrix.rows - row);
    memory.fill(sums, 0, tokens * tileRows * 8);
    for (let from: usize = 0; from < matrix.columns; from += pieceColumns) {
      const columns = min(pieceColumns, matrix.columns - from);
      widen(matrix, row, rows, from, columns, scratch);
      let t: usize = 0;
      const at = x + 2 * from;
      for (; t + 2 <= tokens; t += 2) {
        addTile(scratch, at + 2 * t * matrix.columns, 2 * matrix.columns, columns, sums + 8 * tileRows * t);
      }
      if (t < tokens) addColumn(scratch, at + 2 * t * matrix.columns, columns, sums + 8 * tileRows * t);
    }
    for (let t: usize = 0; t < tokens; t++) {
      const exponent = load<i32>(xExponents + 4 * t);
      for (let j: usize = 0; j < rows; j++) {
        const sum = load<i64>(sums + 8 * (tileRows * t + j));
        store<i32>(y + 4 * (t * yStride + row + j), finish(matrix, row + j, sum, exponent + fraction, max));
      }
    }
  }
}

/** From the sum of products to a fixed-point number. */
function finish(matrix: MatrixRef, row: usize, sum: i64, exponent: i32, max: i32): i32 {
  const multiplier = load<i16>(matrix.multipliers + 2 * row) as i64;
  const shift = -(exponent + (load<i8>(matrix.exponents + row) as i32));
  const value = scaleTo(sum * multiplier, shift, max as i64);
  if (matrix.bias == 0) return value as i32;
  return clamp(value + (load<i32>(matrix.bias + 4 * row) as i64), max as i64) as i32;
}

/** Four rows of a piece as 16-bit numbers; rows beyond the matrix are zero. */
function widen(matrix: MatrixRef, row: usize, rows: usize, from: usize, columns: usize, into: usize): void {
  if (rows < tileRows) memory.fill(into, 0, 2 * tileRows * pieceColumns);
  for (let j: usize = 0; j < rows; j++) {
    const weights = matrix.weights + (row + j) * matrix.columns + from;
    const to = into + 2 * j * pieceColumns;
    for (let i: usize = 0; i < columns; i += 16) {
      const packed = v128.load(weights + i);
      v128.store(to + 2 * i, i16x8.extend_low_i8x16_s(packed));
      v128.store(to + 2 * i, i16x8.extend_high_i8x16_s(packed), 16);
    }
  }
}

/** Four rows times two tokens. */
function addTile(w: usize, x: usize, xStride: usize, columns: usize, sums: usize): void {
  let a0 = i32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  const end = x + 2 * columns;
  const row = 2 * pieceColumns;
  for (; x < end; x += 16, w += 16) {
    const xa = v128.load(x);
    const xb = v128.load(x + xStride);
    let packed = v128.load(w);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(xa, packed));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(xb, packed));
    packed = v128.load(w + row);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(xa, packed));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(xb, packed));
    packed = v128.load(w + 2 * row);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(xa, packed));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(xb, packed));
    packed = v128.load(w + 3 * row);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(xa, packed));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(xb, packed));
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
function addColumn(w: usize, x: usize, columns: usize, sums: usize): void {
  let a0 = i32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  const end = x + 2 * columns;
  const row = 2 * pieceColumns;
  for (; x < end; x += 16, w += 16) {
    const xa = v128.load(x);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(xa, v128.load(w)));
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(xa, v128.load(w + row)));
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(xa, v128.load(w + 2 * row)));
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(xa, v128.load(w + 3 * row)));
  }
  addTo(sums, a0);
  addTo(sums + 8, a1);
  addTo(sums + 16, a2);
  addTo(sums + 24, a3);
}

function addTo(sum: usize, lanes: v128): void {
  store<i64>(sum, load<i64>(sum) + sumOfLanes(lanes));
}

/** One token: each weight is used once, so that reading them is all that counts. */
function matvec(matrix: MatrixRef, x: usize, xExponent: i32, y: usize, fraction: i32, max: i32): void {
  const columns = matrix.columns;
  const exponent = xExponent + fraction;
  let row: usize = 0;
  for (; row + tileRows <= matrix.rows; row += tileRows) {
    let s0: i64 = 0;
    let s1: i64 = 0;
    let s2: i64 = 0;
    let s3: i64 = 0;
    for (let from: usize = 0; from < columns; from += 8192) {
      let a0 = i32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      let w0 = matrix.weights + row * columns + from;
      let at = x + 2 * from;
      const end = at + 2 * min<usize>(8192, columns - from);
      for (; at < end; at += 32, w0 += 16) {
        const low = v128.load(at);
        const high = v128.load(at, 16);
        a0 = i32x4.add(a0, dotOf(v128.load(w0), low, high));
        a1 = i32x4.add(a1, dotOf(v128.load(w0 + columns), low, high));
        a2 = i32x4.add(a2, dotOf(v128.load(w0 + 2 * columns), low, high));
        a3 = i32x4.add(a3, dotOf(v128.load(w0 + 3 * columns), low, high));
      }
      s0 += sumOfLanes(a0);
      s1 += sumOfLanes(a1);
      s2 += sumOfLanes(a2);
      s3 += sumOfLanes(a3);
    }
    store<i32>(y + 4 * row, finish(matrix, row, s0, exponent, max));
    store<i32>(y + 4 * row, finish(matrix, row + 1, s1, exponent, max), 4);
    store<i32>(y + 4 * row, finish(matrix, row + 2, s2, exponent, max), 8);
    store<i32>(y + 4 * row, finish(matrix, row + 3, s3, exponent, max), 12);
  }
  for (; row < matrix.rows; row++) {
    let sum: i64 = 0;
    for (let i: usize = 0; i < columns; i += 16) {
      const at = x + 2 * i;
      sum += sumOfLanes(dotOf(v128.load(matrix.weights + row * columns + i), v128.load(at), v128.load(at, 16)));
    }
    store<i32>(y + 4 * row, finish(matrix, row, sum, exponent, max));
  }
}

/** Sixteen weights times sixteen activations: at most 2^22 a lane. */
function dotOf(weights: v128, low: v128, high: v128): v128 {
  return i32x4.add(
    i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(weights), low),
    i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(weights), high),
  );
}
