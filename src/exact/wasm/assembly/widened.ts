/** Many tokens: each piece of a tile is widened to 16 bits once, whatever its format, and then multiplied with all of them. */
import { widenGroups } from "./grouped";
import { areUsual, doublesOf, highDoubles, scaleAll } from "./doubles";
import { finish, widenRows } from "./linear";
import { MatrixRef, tileRows } from "./tiles";

/** Columns of a piece: no more than lanes hold of four-bit weights times scales. */
const pieceColumns: usize = 1024;
/** Tiles that are multiplied with two tokens one after the other: their activations come from a farther cache once for all of them. */
const panelTiles: usize = 4;
const panelRows: usize = panelTiles * tileRows;
const panelBytes: usize = 2 * panelRows * pieceColumns;

/** As `matmul`. */
export function multiplyWidened(
  matrix: MatrixRef,
  x: usize,
  xExponents: usize,
  tokens: usize,
  y: usize,
  yStride: usize,
  fraction: i32,
  max: i32,
  scratch: usize,
  isGrouped: bool,
): void {
  const columns = matrix.columns;
  const sums = scratch + panelBytes;
  const sumBytes = 8 * tileRows * tokens;
  for (let row: usize = 0; row < matrix.rows; row += panelRows) {
    const rows = min(panelRows, matrix.rows - row);
    memory.fill(sums, 0, sumBytes * panelTiles);
    for (let from: usize = 0; from < columns; from += pieceColumns) {
      const some = min(pieceColumns, columns - from);
      const tileBytes = 2 * tileRows * some;
      const end = scratch + tileBytes * ((rows + tileRows - 1) / tileRows);
      for (let tile = scratch, i = row; tile < end; tile += tileBytes, i += tileRows) {
        if (isGrouped) widenGroups(matrix, i, from, some, tile);
        else widenRows(matrix, i, from, some, tile);
      }
      let at = x + 2 * from;
      let into = sums;
      let t: usize = 0;
      for (; t + 2 <= tokens; t += 2, at += 4 * columns, into += 16 * tileRows) {
        for (let tile = scratch, to = into; tile < end; tile += tileBytes, to += sumBytes) {
          addTile(tile, at, 2 * columns, some, to);
        }
      }
      if (t < tokens) {
        for (let tile = scratch, to = into; tile < end; tile += tileBytes, to += sumBytes)
          addColumn(tile, at, some, to);
      }
    }
    for (let i: usize = 0; i < rows; i += tileRows) {
      const own = sums + (i / tileRows) * sumBytes;
      const count = min(tileRows, rows - i);
      finishTile(matrix, row + i, count, own, xExponents, tokens, y + 4 * (row + i), yStride, fraction, max);
    }
  }
}

/** `finish` for four rows of all tokens. */
function finishTile(
  matrix: MatrixRef,
  row: usize,
  rows: usize,
  sums: usize,
  xExponents: usize,
  tokens: usize,
  y: usize,
  yStride: usize,
  fraction: i32,
  max: i32,
): void {
  const multipliers = i32x4.extend_low_i16x8_s(v128.load64_zero(matrix.multipliers + 2 * row));
  const low = f64x2.convert_low_i32x4_s(multipliers);
  const high = highDoubles(multipliers);
  const bytes = i16x8.extend_low_i8x16_s(v128.load32_zero(matrix.exponents + row));
  const exponents = i32x4.add(i32x4.extend_low_i16x8_s(bytes), i32x4.splat(fraction));
  const most = i32x4.splat(max);
  const hasBias = matrix.bias != 0;
  const bias = hasBias ? v128.load(matrix.bias + 4 * row) : i32x4.splat(0);
  for (let t: usize = 0; t < tokens; t++, sums += 32, y += 4 * yStride) {
    const exponent = load<i32>(xExponents + 4 * t);
    const shifts = i32x4.neg(i32x4.add(exponents, i32x4.splat(exponent)));
    if (rows < tileRows || !areUsual(shifts)) {
      for (let j: usize = 0; j < rows; j++) {
        store<i32>(y + 4 * j, finish(matrix, row + j, load<i64>(sums + 8 * j), exponent + fraction, max));
      }
      continue;
    }
    const first = f64x2.mul(doublesOf(v128.load(sums)), low);
    const last = f64x2.mul(doublesOf(v128.load(sums, 16)), high);
    let value = scaleAll(first, last, shifts, most);
    // 26 bits and 26 bits.
    if (hasBias) value = i32x4.max_s(i32x4.min_s(i32x4.add(value, bias), most), i32x4.neg(most));
    v128.store(y, value);
  }
}

/** Adds the sums of the lanes of four vectors to four 64-bit numbers. */
function addSums(sums: usize, a: v128, b: v128, c: v128, d: v128): void {
  const first = sumsOfTwo(a, b);
  const last = sumsOfTwo(c, d);
  v128.store(sums, i64x2.add(v128.load(sums), first));
  v128.store(sums, i64x2.add(v128.load(sums, 16), last), 16);
}

function sumsOfTwo(a: v128, b: v128): v128 {
  const wideA = i64x2.add(i64x2.extend_low_i32x4_s(a), i64x2.extend_high_i32x4_s(a));
  const wideB = i64x2.add(i64x2.extend_low_i32x4_s(b), i64x2.extend_high_i32x4_s(b));
  return i64x2.add(v128.shuffle<i64>(wideA, wideB, 0, 2), v128.shuffle<i64>(wideA, wideB, 1, 3));
}

/** Four rows times two tokens, sixteen columns at a time: each round of a loop costs something, too. */
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
  for (; x < end; x += 32, w += 128) {
    let xa = v128.load(x);
    let xb = v128.load(x + xStride);
    let some = v128.load(w);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(xa, some));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(xb, some));
    some = v128.load(w, 16);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(xa, some));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(xb, some));
    some = v128.load(w, 32);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(xa, some));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(xb, some));
    some = v128.load(w, 48);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(xa, some));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(xb, some));
    xa = v128.load(x, 16);
    xb = v128.load(x + xStride, 16);
    some = v128.load(w, 64);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(xa, some));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(xb, some));
    some = v128.load(w, 80);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(xa, some));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(xb, some));
    some = v128.load(w, 96);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(xa, some));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(xb, some));
    some = v128.load(w, 112);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(xa, some));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(xb, some));
  }
  addSums(sums, a0, a1, a2, a3);
  addSums(sums + 32, b0, b1, b2, b3);
}

/** Four rows times one token. */
function addColumn(w: usize, x: usize, columns: usize, sums: usize): void {
  let a0 = i32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  const end = x + 2 * columns;
  for (; x < end; x += 16, w += 64) {
    const xa = v128.load(x);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(xa, v128.load(w)));
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(xa, v128.load(w, 16)));
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(xa, v128.load(w, 32)));
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(xa, v128.load(w, 48)));
  }
  addSums(sums, a0, a1, a2, a3);
}
