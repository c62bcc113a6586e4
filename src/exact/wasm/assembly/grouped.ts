/**
 * Matrices of four-bit weights times blocks of activations. Lanes are rows: four of them lie side by side, two columns
 * of each in a lane, so that nothing is added up across lanes.
 *
 * The 64 bytes of 32 columns are four vectors of 8 columns. The 16-bit lane 2r + s of the vector from column c holds
 * the weights of row r in columns c + s, c + 2 + s, c + 4 + s and c + 6 + s, each plus 8, from its lowest bits on.
 */
import { sumOfLanes } from "./integers";
import { finish } from "./linear";
import { MatrixRef, tileRows } from "./tiles";
import { multiplyWidened } from "./widened";

const groupColumns: usize = 32;
const groupBytes: usize = 64;
/** Groups whose products one lane holds: 32 · 8 · 127 · 8,191 · 8 < 2^31. */
const groupsPerFlush: usize = 8;
/** So many tokens are quicker one by one than after widening. */
const tokensOneByOne: usize = 4;

/** As `matmul`. */
export function matmulGrouped(
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
  if (tokens <= tokensOneByOne) {
    return oneByOne(matrix, x, xExponents, tokens, y, yStride, fraction, max, scratch);
  }
  multiplyWidened(matrix, x, xExponents, tokens, y, yStride, fraction, max, scratch, true);
}

/** A piece of a tile as weights times scales: eight columns of each row, then the next eight. */
export function widenGroups(matrix: MatrixRef, row: usize, from: usize, columns: usize, into: usize): void {
  let weights = matrix.weights + (tileRows * (row / tileRows) * matrix.columns + tileRows * from) / 2;
  let scales = matrix.scales + (row * matrix.columns + tileRows * from) / groupColumns;
  const end = into + 2 * tileRows * columns;
  while (into < end) {
    const s0 = i16x8.splat(load<i8>(scales) as i16);
    const s1 = i16x8.splat(load<i8>(scales, 1) as i16);
    const s2 = i16x8.splat(load<i8>(scales, 2) as i16);
    const s3 = i16x8.splat(load<i8>(scales, 3) as i16);
    for (let v: usize = 0; v < groupBytes; v += 16, into += 64) {
      const packed = v128.load(weights + v);
      const low = i16x8.splat(15);
      const eight = i16x8.splat(8);
      const a = i16x8.sub(v128.and(packed, low), eight);
      const b = i16x8.sub(v128.and(i16x8.shr_u(packed, 4), low), eight);
      const c = i16x8.sub(v128.and(i16x8.shr_u(packed, 8), low), eight);
      const d = i16x8.sub(i16x8.shr_u(packed, 12), eight);
      // From pairs of columns with four rows each to rows with four pairs each.
      const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
      const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
      const ef = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
      const gh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
      v128.store(into, i16x8.mul(s0, v128.shuffle<i64>(ab, cd, 0, 2)));
      v128.store(into, i16x8.mul(s1, v128.shuffle<i64>(ab, cd, 1, 3)), 16);
      v128.store(into, i16x8.mul(s2, v128.shuffle<i64>(ef, gh, 0, 2)), 32);
      v128.store(into, i16x8.mul(s3, v128.shuffle<i64>(ef, gh, 1, 3)), 48);
    }
    weights += groupBytes;
    scales += tileRows;
  }
}

/** A few tokens: weights are unpacked for each of them, but read from memory once. */
function oneByOne(
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
  const columns = matrix.columns;
  const groups = columns / groupColumns;
  for (let t: usize = 0; t < tokens; t++) sumGroups(x + 2 * t * columns, groups, scratch + 4 * t * groups);
  for (let row: usize = 0; row < matrix.rows; row += tileRows) {
    const weights = matrix.weights + (row * columns) / 2;
    const scales = matrix.scales + row * groups;
    for (let t: usize = 0; t < tokens; t++) {
      const exponent = load<i32>(xExponents + 4 * t) + fraction;
      const to = y + 4 * (t * yStride + row);
      multiplyTile(weights, scales, x + 2 * t * columns, scratch + 4 * t * groups, groups);
      const rows = matrix.rows - row;
      store<i32>(to, finish(matrix, row, i64x2.extract_lane(tileLow, 0), exponent, max));
      if (rows > 1) store<i32>(to, finish(matrix, row + 1, i64x2.extract_lane(tileLow, 1), exponent, max), 4);
      if (rows > 2)
        store<i32>(to, finish(matrix, row + 2, i64x2.extract_lane(tileHigh, 0), exponent, max), 8);
      if (rows > 3)
        store<i32>(to, finish(matrix, row + 3, i64x2.extract_lane(tileHigh, 1), exponent, max), 12);
    }
  }
}

/** Eight times the sum of each group's activations: what weights that are 8 too large add. */
function sumGroups(x: usize, groups: usize, into: usize): void {
  const eight = i16x8.splat(8);
  for (let g: usize = 0; g < groups; g++, x += 2 * groupColumns) {
    const first = i32x4.add(
      i32x4.dot_i16x8_s(v128.load(x), eight),
      i32x4.dot_i16x8_s(v128.load(x, 16), eight),
    );
    const last = i32x4.add(
      i32x4.dot_i16x8_s(v128.load(x, 32), eight),
      i32x4.dot_i16x8_s(v128.load(x, 48), eight),
    );
    store<i32>(into + 4 * g, sumOfLanes(i32x4.add(first, last)) as i32);
  }
}

/** Sums of the tile's rows 0 and 1, and 2 and 3. */
let tileLow: v128 = i64x2.splat(0);
let tileHigh: v128 = i64x2.splat(0);

function multiplyTile(weights: usize, scales: usize, x: usize, tooMuch: usize, groups: usize): void {
  let low = i64x2.splat(0);
  let high = i64x2.splat(0);
  // Zeros that the compiler does not know: it would build constants anew for each group.
  const zero = (groups >> 31) as i16;
  const mask0 = i16x8.splat(zero | 0x000f);
  const mask1 = i16x8.splat(zero | 0x00f0);
  const mask2 = i16x8.splat(zero | 0x0f00);
  const end = scales + tileRows * groups;
  while (scales < end) {
    let sum = i32x4.splat(0);
    const stop = min(end, scales + tileRows * groupsPerFlush);
    for (; scales < stop; scales += tileRows, weights += groupBytes, x += 2 * groupColumns, tooMuch += 4) {
      const group = i32x4.sub(dotGroup(weights, x, mask0, mask1, mask2), v128.load32_splat(tooMuch));
      const scale = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(scales)));
      sum = i32x4.add(sum, i32x4.mul(group, scale));
    }
    low = i64x2.add(low, i64x2.extend_low_i32x4_s(sum));
    high = i64x2.add(high, i64x2.extend_high_i32x4_s(sum));
  }
  tileLow = low;
  tileHigh = high;
}

/**
 * Four rows times 32 columns. Weights stay where they stand in their lanes, 16 and 256 times too large, which their sums make good: the
 * largest are 256 · 15 · 8,191 · 8.
 */
function dotGroup(weights: usize, x: usize, mask0: v128, mask1: v128, mask2: v128): v128 {
  let w = v128.load(weights);
  let a = i32x4.dot_i16x8_s(v128.and(w, mask0), v128.load32_splat(x));
  let b = i32x4.dot_i16x8_s(v128.and(w, mask1), v128.load32_splat(x, 4));
  let c = i32x4.dot_i16x8_s(v128.and(w, mask2), v128.load32_splat(x, 8));
  let d = i32x4.dot_i16x8_s(i16x8.shr_u(w, 12), v128.load32_splat(x, 12));
  w = v128.load(weights, 16);
  a = i32x4.add(a, i32x4.dot_i16x8_s(v128.and(w, mask0), v128.load32_splat(x, 16)));
  b = i32x4.add(b, i32x4.dot_i16x8_s(v128.and(w, mask1), v128.load32_splat(x, 20)));
  c = i32x4.add(c, i32x4.dot_i16x8_s(v128.and(w, mask2), v128.load32_splat(x, 24)));
  d = i32x4.add(d, i32x4.dot_i16x8_s(i16x8.shr_u(w, 12), v128.load32_splat(x, 28)));
  w = v128.load(weights, 32);
  a = i32x4.add(a, i32x4.dot_i16x8_s(v128.and(w, mask0), v128.load32_splat(x, 32)));
  b = i32x4.add(b, i32x4.dot_i16x8_s(v128.and(w, mask1), v128.load32_splat(x, 36)));
  c = i32x4.add(c, i32x4.dot_i16x8_s(v128.and(w, mask2), v128.load32_splat(x, 40)));
  d = i32x4.add(d, i32x4.dot_i16x8_s(i16x8.shr_u(w, 12), v128.load32_splat(x, 44)));
  w = v128.load(weights, 48);
  a = i32x4.add(a, i32x4.dot_i16x8_s(v128.and(w, mask0), v128.load32_splat(x, 48)));
  b = i32x4.add(b, i32x4.dot_i16x8_s(v128.and(w, mask1), v128.load32_splat(x, 52)));
  c = i32x4.add(c, i32x4.dot_i16x8_s(v128.and(w, mask2), v128.load32_splat(x, 56)));
  d = i32x4.add(d, i32x4.dot_i16x8_s(i16x8.shr_u(w, 12), v128.load32_splat(x, 60)));
  return i32x4.add(i32x4.add(a, i32x4.shr_s(b, 4)), i32x4.add(i32x4.shr_s(c, 8), d));
}
