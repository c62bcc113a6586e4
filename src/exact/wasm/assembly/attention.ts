/**
 * Attention of one query head over the keys and values of one head. Keys lie position by position; values in pairs of
 * positions, channel by channel, so that one instruction multiplies two positions with their weights.
 *
 * Softmax weights have 25 bits: two limbs of 12 and 13. A lane holds 64 products of 13 by 13 bits.
 */
import { bitLength, roundShift, scaleTo } from "./integers";
import { toBlock } from "./vectors";

const limbBits: i64 = 12;
/** Pairs of positions whose products fit a 32-bit lane: 64 · 4,096 · 8,191 < 2^31. */
const pairsPerFlush: usize = 32;
const noScore: i64 = -0x80000000;

/**
 * Writes `headDim` results with 16 fractional bits to `out`. `count` positions are visible; `largestExponent` is that of
 * their values. `scratch` holds 12 · (count + 2) + 8 · headDim bytes.
 */
export function attend(
  query: usize,
  queryExponent: i32,
  keys: usize,
  keyExponents: usize,
  values: usize,
  valueExponents: usize,
  count: usize,
  headDim: usize,
  exp2: usize,
  out: usize,
  scratch: usize,
): void {
  const scores = scratch;
  const low = scores + 4 * (count + 2);
  const high = low + 2 * (count + 2);
  const sums = (high + 2 * (count + 2) + 15) & ~15;
  const best = scoreAll(query, queryExponent, keys, keyExponents, count, headDim, scores);
  let exponent: i32 = -128;
  for (let j: usize = 0; j < count; j++) exponent = max(exponent, load<i8>(valueExponents + j) as i32);
  const total = weighAll(scores, best, exp2, valueExponents, exponent, count, low, high);
  // The pair of the last position may be empty.
  store<i16>(low + 2 * count, 0);
  store<i16>(high + 2 * count, 0);
  memory.fill(sums, 0, 8 * headDim);
  for (let channel: usize = 0; channel < headDim; channel += 16) {
    sumChannels(values + 4 * channel, 4 * headDim, low, high, (count + 1) / 2, sums + 8 * channel);
  }
  const trim = max(0, bitLength(total) - 22) as i64;
  const divisor = total >> trim;
  const shift = -(exponent - 12 + 16);
  for (let i: usize = 0; i < headDim; i++) {
    const dividend = (load<i64>(sums + 8 * i) >> trim) << 12;
    const quotient = floorDivide(2 * dividend + divisor, 2 * divisor);
    store<i32>(out + 4 * i, scaleTo(quotient, shift, 0x7fffffff) as i32);
  }
}

function floorDivide(dividend: i64, divisor: i64): i64 {
  const quotient = dividend / divisor;
  return quotient * divisor > dividend ? quotient - 1 : quotient;
}

/** Scores of all positions as binary logarithms with 10 fractional bits; returns the largest. */
function scoreAll(
  query: usize,
  queryExponent: i32,
  keys: usize,
  keyExponents: usize,
  count: usize,
  headDim: usize,
  scores: usize,
): i64 {
  let best = noScore;
  for (let j: usize = 0; j < count; j++) {
    const key = keys + 2 * headDim * j;
    let lanes = i32x4.splat(0);
    // 12 by 14 bits: a lane holds 128 products, that is 512 channels.
    for (let i: usize = 0; i < 2 * headDim; i += 16) {
      lanes = i32x4.add(lanes, i32x4.dot_i16x8_s(v128.load(query + i), v128.load(key + i)));
    }
    const wide = i64x2.add(i64x2.extend_low_i32x4_s(lanes), i64x2.extend_high_i32x4_s(lanes));
    const product = i64x2.extract_lane(wide, 0) + i64x2.extract_lane(wide, 1);
    const shift = -(queryExponent + (load<i8>(keyExponents + j) as i32) + 10);
    const score = scaleTo(product, shift, 0x7fffffff);
    store<i32>(scores + 4 * j, score as i32);
    best = max(best, score);
  }
  return best;
}

/** Softmax weights, brought to the values' largest exponent and split into limbs; returns the sum of all weights. */
function weighAll(
  scores: usize,
  best: i64,
  exp2: usize,
  valueExponents: usize,
  exponent: i32,
  count: usize,
  low: usize,
  high: usize,
): i64 {
  let total: i64 = 0;
  for (let j: usize = 0; j < count; j++) {
    const distance = best - (load<i32>(scores + 4 * j) as i64);
    const entry = load<i32>(exp2 + 4 * ((distance & 1023) as usize)) as i64;
    const weight = distance >= 26 << 10 ? 0 : roundShift(entry, (distance >> 10) as i32);
    total += weight;
    const drop = exponent - (load<i8>(valueExponents + j) as i32);
    const aligned = drop > 31 ? 0 : weight >> (drop as i64);
    store<i16>(low + 2 * j, (aligned & ((1 << limbBits) - 1)) as i16);
    store<i16>(high + 2 * j, (aligned >> limbBits) as i16);
  }
  return total;
}

/** sums[i] += Σ weight · value over pairs of positions, for 16 channels. */
function sumChannels(values: usize, stride: usize, low: usize, high: usize, pairs: usize, sums: usize): void {
  for (let from: usize = 0; from < pairs; from += pairsPerFlush) {
    const to = min(pairs, from + pairsPerFlush);
    let l0 = i32x4.splat(0);
    let l1 = l0;
    let l2 = l0;
    let l3 = l0;
    let h0 = l0;
    let h1 = l0;
    let h2 = l0;
    let h3 = l0;
    for (let pair = from; pair < to; pair++) {
      const lowWeights = v128.load32_splat(low + 4 * pair);
      const highWeights = v128.load32_splat(high + 4 * pair);
      const at = values + stride * pair;
      let v = v128.load(at);
      l0 = i32x4.add(l0, i32x4.dot_i16x8_s(v, lowWeights));
      h0 = i32x4.add(h0, i32x4.dot_i16x8_s(v, highWeights));
      v = v128.load(at, 16);
      l1 = i32x4.add(l1, i32x4.dot_i16x8_s(v, lowWeights));
      h1 = i32x4.add(h1, i32x4.dot_i16x8_s(v, highWeights));
      v = v128.load(at, 32);
      l2 = i32x4.add(l2, i32x4.dot_i16x8_s(v, lowWeights));
      h2 = i32x4.add(h2, i32x4.dot_i16x8_s(v, highWeights));
      v = v128.load(at, 48);
      l3 = i32x4.add(l3, i32x4.dot_i16x8_s(v, lowWeights));
      h3 = i32x4.add(h3, i32x4.dot_i16x8_s(v, highWeights));
    }
    flush(sums, l0, h0);
    flush(sums + 32, l1, h1);
    flush(sums + 64, l2, h2);
    flush(sums + 96, l3, h3);
  }
}

/** Adds low + 2^12 · high of four channels. */
function flush(sums: usize, low: v128, high: v128): void {
  const first = i64x2.add(i64x2.extend_low_i32x4_s(low), i64x2.shl(i64x2.extend_low_i32x4_s(high), 12));
  const second = i64x2.add(i64x2.extend_high_i32x4_s(low), i64x2.shl(i64x2.extend_high_i32x4_s(high), 12));
  v128.store(sums, i64x2.add(v128.load(sums), first));
  v128.store(sums, i64x2.add(v128.load(sums, 16), second), 16);
}

/**
 * Rounds one head's key and value of one position to blocks of 14 bits, and puts them where `attend` finds them and, for
 * commitments, beside the position's residual vector: all heads' keys, all values, exponents of keys, of values.
 */
export function keepHead(
  key: usize,
  value: usize,
  headDim: usize,
  shown: usize,
  shownExponents: usize,
  shownStride: usize,
  heads: usize,
  keys: usize,
  values: usize,
  keyExponents: usize,
  valueExponents: usize,
  position: usize,
): void {
  const shownValue = shown + shownStride;
  const keyExponent = toBlock(key, headDim, 14, shown) - 16;
  const valueExponent = toBlock(value, headDim, 14, shownValue) - 16;
  store<i8>(shownExponents, keyExponent as i8);
  store<i8>(shownExponents + heads, valueExponent as i8);
  store<i8>(keyExponents + position, keyExponent as i8);
  store<i8>(valueExponents + position, valueExponent as i8);
  memory.copy(keys + 2 * headDim * position, shown, 2 * headDim);
  const at = values + 4 * headDim * (position >> 1) + 2 * (position & 1);
  for (let i: usize = 0; i < headDim; i++) store<i16>(at + 4 * i, load<i16>(shownValue + 2 * i));
}
