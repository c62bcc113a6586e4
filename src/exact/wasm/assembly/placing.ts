/**
 * From the bytes of a file to where kernels look for them; which numbers a file has at which place is in model/weight-bytes.ts. A piece of a matrix begins at its
 * byte `at` and is a multiple of sixteen bytes, as is every row of int8 weights and every group of four-bit ones. Results are 1 where a number is −128, which no
 * conversion makes, and 0 otherwise.
 */
import { tileRows } from "./tiles";

/** Columns of a row that follow each other in a tile; see `MatrixRef`. */
const tileColumns: usize = 16;
const groupColumns: usize = 32;

/** Int8 weights: 16 columns of a row, 64 bytes apart. */
export function placeRows(from: usize, bytes: usize, at: usize, columns: usize, weights: usize): i32 {
  let row = at / columns;
  let column = at % columns;
  let found = i8x16.splat(0);
  const least = i8x16.splat(-128);
  const end = from + bytes;
  while (from < end) {
    let to = weights + (row & ~(tileRows - 1)) * columns + tileRows * column + tileColumns * (row % tileRows);
    const stop = min(end, from + columns - column);
    for (; from < stop; from += tileColumns, to += tileRows * tileColumns) {
      const some = v128.load(from);
      found = v128.or(found, i8x16.eq(some, least));
      v128.store(to, some);
    }
    row += 1;
    column = 0;
  }
  return v128.any_true(found) ? 1 : 0;
}

/** Four-bit weights, a group at a time; see grouped.ts. Each number gets 8 more; of eight those of even columns come first, then those of odd ones. */
export function placeGroups(from: usize, bytes: usize, at: usize, columns: usize, weights: usize): void {
  const rowBytes = columns / 2;
  let row = at / rowBytes;
  let inRow = at % rowBytes;
  const end = from + bytes;
  while (from < end) {
    let to = weights + (row & ~(tileRows - 1)) * rowBytes + tileRows * inRow + 4 * (row % tileRows);
    const stop = min(end, from + rowBytes - inRow);
    for (; from < stop; from += 16, to += 16 * tileRows) {
      const plain = v128.xor(v128.load(from), i8x16.splat(-120));
      const spread = v128.or(everySecond(plain), i32x4.shl(everySecond(i32x4.shr_u(plain, 4)), 16));
      v128.store32_lane(to, spread, 0);
      v128.store32_lane(to, spread, 1, 16);
      v128.store32_lane(to, spread, 2, 32);
      v128.store32_lane(to, spread, 3, 48);
    }
    row += 1;
    inRow = 0;
  }
}

/** The lower half of each byte, those of 32 bits side by side in the lower 16. */
function everySecond(packed: v128): v128 {
  const single = v128.and(packed, i32x4.splat(0x0f0f0f0f));
  const pairs = v128.and(v128.or(single, i32x4.shr_u(single, 4)), i32x4.splat(0x00ff00ff));
  return v128.and(v128.or(pairs, i32x4.shr_u(pairs, 8)), i32x4.splat(0xffff));
}

/** Scales of groups: those of four rows side by side. */
export function placeScales(from: usize, bytes: usize, at: usize, columns: usize, scales: usize): i32 {
  const groups = columns / groupColumns;
  let row = at / groups;
  let group = at % groups;
  let found = false;
  const end = from + bytes;
  while (from < end) {
    let to = scales + (row & ~(tileRows - 1)) * groups + tileRows * group + (row % tileRows);
    const stop = min(end, from + groups - group);
    for (; from < stop; from++, to += tileRows) {
      const scale = load<i8>(from);
      found = found || scale == -128;
      store<i8>(to, scale);
    }
    row += 1;
    group = 0;
  }
  return found ? 1 : 0;
}
