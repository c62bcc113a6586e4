/** Many tokens: each piece of a tile is widened to 16 bits once, whatever its format, and then multiplied with all of them. */
import { groupedPieceColumns, widenGroups } from "./grouped";
import { addTo, finish, MatrixRef, pieceColumns, rowStride, tileRows, widenRows } from "./linear";

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
  const sums = scratch + tileRows * rowStride;
  const piece = isGrouped ? groupedPieceColumns : pieceColumns;
  for (let row: usize = 0; row < matrix.rows; row += tileRows) {
    const rows = min(tileRows, matrix.rows - row);
    memory.fill(sums, 0, tokens * tileRows * 8);
    for (let from: usize = 0; from < matrix.columns; from += piece) {
      const columns = min(piece, matrix.columns - from);
      if (isGrouped) widenGroups(matrix, row, from, columns, scratch);
      else widenRows(matrix, row, from, columns, scratch);
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
  for (; x < end; x += 16, w += 16) {
    const xa = v128.load(x);
    const xb = v128.load(x + xStride);
    let packed = v128.load(w);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(xa, packed));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(xb, packed));
    packed = v128.load(w + rowStride);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(xa, packed));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(xb, packed));
    packed = v128.load(w + 2 * rowStride);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(xa, packed));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(xb, packed));
    packed = v128.load(w + 3 * rowStride);
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
  for (; x < end; x += 16, w += 16) {
    const xa = v128.load(x);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(xa, v128.load(w)));
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(xa, v128.load(w + rowStride)));
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(xa, v128.load(w + 2 * rowStride)));
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(xa, v128.load(w + 3 * rowStride)));
  }
  addTo(sums, a0);
  addTo(sums + 8, a1);
  addTo(sums + 16, a2);
  addTo(sums + 24, a3);
}
