/**
 * Attention of query heads over the keys and values of one head, which lie in pages. In a page keys lie position by position; values in
 * pairs of positions, channel by channel, so that one instruction multiplies two positions with their weights.
 *
 * Softmax weights have 25 bits: two limbs of 12 and 13. A lane holds 64 products of 13 by 13 bits.
 */
import { areUsual, clampAll, highDoubles, powers, highPowers, scaleAll } from "./doubles";
import { bitLength, roundShift, scaleTo, sumOfLanes } from "./integers";
import { toBlock } from "./vectors";

const limbBits: i64 = 12;
/** Pairs of positions whose products fit a 32-bit lane: 64 · 4,096 · 8,191 < 2^31. */
const pairsPerFlush: usize = 32;
const noScore: i64 = -0x80000000;
/** Positions of a page, as in pages.ts. */
export const pagePositions: usize = 32;
const pairsPerPage: usize = pagePositions / 2;
/** Of a cache. */
const lineBytes: usize = 64;

/**
 * All query heads that read one key head: turns their `heads` · `headDim` numbers with 16 fractional bits at `q` into results with as many.
 * `count` positions are visible. `pages` is a table of the addresses of pages; keys, values and their exponents are offsets in each. Page by page
 * for all heads, so that a page comes from memory once. `scratch` holds heads · (10 · headDim + 8 · (count + 32) + 4) + count + 96 bytes.
 */
export function attend(
  q: usize,
  heads: usize,
  queryFraction: i32,
  pages: usize,
  keys: usize,
  keyExponents: usize,
  values: usize,
  valueExponents: usize,
  count: usize,
  headDim: usize,
  exp2: usize,
  scratch: usize,
): void {
  const room = (count + pagePositions) & ~(pagePositions - 1);
  const sums = scratch;
  const queries = sums + 8 * headDim * heads;
  const scores = queries + 2 * headDim * heads;
  const low = scores + 4 * room * heads;
  const high = low + 2 * room * heads;
  const exponents = high + 2 * room * heads;
  const shifts = (exponents + room + 15) & ~15;
  for (let h: usize = 0; h < heads; h++) {
    const block = toBlock(q + 4 * headDim * h, headDim, 12, queries + 2 * headDim * h);
    store<i32>(shifts + 4 * h, -(block - queryFraction + 10));
  }
  scoreAll(queries, shifts, heads, pages, keys, keyExponents, count, headDim, scores, room);
  touch((load<u32>(pages) as usize) + values, headDim);
  if (count > pagePositions) touch((load<u32>(pages, 4) as usize) + values, headDim);
  const exponent = gatherExponents(pages, valueExponents, count, exponents);
  for (let h: usize = 0; h < heads; h++) {
    const weightsLow = low + 2 * room * h;
    const weightsHigh = high + 2 * room * h;
    const total = weighAll(scores + 4 * room * h, exp2, exponents, exponent, count, weightsLow, weightsHigh);
    // The pair of the last position may be empty.
    store<i16>(weightsLow + 2 * count, 0);
    store<i16>(weightsHigh + 2 * count, 0);
    store<i64>(scores + 4 * room * h, total);
  }
  memory.fill(sums, 0, 8 * headDim * heads);
  sumAll(pages, values, heads, headDim, low, high, room, (count + 1) / 2, sums);
  for (let h: usize = 0; h < heads; h++) {
    const total = load<i64>(scores + 4 * room * h);
    divideAll(sums + 8 * headDim * h, total, exponent, headDim, q + 4 * headDim * h);
  }
}

/** Weighted sums by the sum of weights, with 16 fractional bits. */
function divideAll(sums: usize, total: i64, exponent: i32, headDim: usize, out: usize): void {
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

/** Scores of all positions as binary logarithms with 10 fractional bits, `room` numbers for each head. */
function scoreAll(
  queries: usize,
  shifts: usize,
  heads: usize,
  pages: usize,
  keys: usize,
  keyExponents: usize,
  count: usize,
  headDim: usize,
  scores: usize,
  room: usize,
): void {
  for (let first: usize = 0; first < count; first += pagePositions, pages += 4) {
    const page = load<u32>(pages) as usize;
    const positions = min(pagePositions, count - first);
    if (first + pagePositions < count) touch((load<u32>(pages, 4) as usize) + keys, headDim);
    for (let h: usize = 0; h < heads; h++) {
      const query = queries + 2 * headDim * h;
      const into = scores + 4 * (room * h + first);
      const shift = load<i32>(shifts + 4 * h);
      if (headDim <= 128) scorePage(query, shift, page + keys, page + keyExponents, positions, headDim, into);
      else scoreLong(query, shift, page + keys, page + keyExponents, positions, headDim, into);
    }
  }
}

let touched: u32 = 0;

/** Reads a little of each line of one head's page: memory brings them while the page before it is worked on. */
function touch(address: usize, headDim: usize): void {
  const end = address + 2 * headDim * pagePositions;
  let sum: u32 = 0;
  for (; address < end; address += 4 * lineBytes) {
    sum |= load<u8>(address);
    sum |= load<u8>(address + lineBytes);
    sum |= load<u8>(address + 2 * lineBytes);
    sum |= load<u8>(address + 3 * lineBytes);
  }
  // Kept, so that the compiler keeps the loads.
  touched = sum;
}

/** 12 by 14 bits: up to 128 products fit 31 bits, in whatever order they are summed. */
function scorePage(
  query: usize,
  shift: i32,
  key: usize,
  exponents: usize,
  positions: usize,
  headDim: usize,
  into: usize,
): void {
  const stride: usize = 2 * headDim;
  // Four positions share the loads of the query; what a page holds behind the last position is not looked at.
  for (let j: usize = 0; j < positions; j += 4, key += 4 * stride) {
    let a = i32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let at = key;
    for (let i: usize = 0; i < stride; i += 16, at += 16) {
      const x = v128.load(query + i);
      a = i32x4.add(a, i32x4.dot_i16x8_s(x, v128.load(at)));
      b = i32x4.add(b, i32x4.dot_i16x8_s(x, v128.load(at + stride)));
      c = i32x4.add(c, i32x4.dot_i16x8_s(x, v128.load(at + 2 * stride)));
      d = i32x4.add(d, i32x4.dot_i16x8_s(x, v128.load(at + 3 * stride)));
    }
    const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7));
    const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7));
    const sum = i32x4.add(v128.shuffle<i64>(ab, cd, 0, 2), v128.shuffle<i64>(ab, cd, 1, 3));
    v128.store(into + 4 * j, sum);
  }
  for (let j: usize = 0; j < positions; j += 4) {
    const shifts = i32x4.sub(i32x4.splat(shift), fourExponents(exponents + j));
    const at = into + 4 * j;
    if (areUsual(shifts)) {
      const dots = v128.load(at);
      const max = i32x4.splat(0x7fffffff);
      v128.store(at, scaleAll(f64x2.convert_low_i32x4_s(dots), highDoubles(dots), shifts, max));
    } else scaleFour(at, shift, exponents + j);
  }
}

/** Of 8 bits each. */
function fourExponents(at: usize): v128 {
  return i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at)));
}

/** Whatever the exponents are; also behind the last position, where nobody looks. */
function scaleFour(at: usize, shift: i32, exponents: usize): void {
  for (let j: usize = 0; j < 4; j++) {
    const own = shift - (load<i8>(exponents + j) as i32);
    store<i32>(at + 4 * j, scaleTo(load<i32>(at + 4 * j) as i64, own, 0x7fffffff) as i32);
  }
}

/** Heads of more than 128 channels: lanes hold 512 channels, their sum needs 33 bits. */
function scoreLong(
  query: usize,
  shift: i32,
  key: usize,
  exponents: usize,
  positions: usize,
  headDim: usize,
  into: usize,
): void {
  for (let j: usize = 0; j < positions; j++, key += 2 * headDim) {
    let lanes = i32x4.splat(0);
    for (let i: usize = 0; i < 2 * headDim; i += 16) {
      lanes = i32x4.add(lanes, i32x4.dot_i16x8_s(v128.load(query + i), v128.load(key + i)));
    }
    const own = shift - (load<i8>(exponents + j) as i32);
    store<i32>(into + 4 * j, scaleTo(sumOfLanes(lanes), own, 0x7fffffff) as i32);
  }
}

/** Exponents of all values side by side; returns the largest. */
function gatherExponents(pages: usize, valueExponents: usize, count: usize, into: usize): i32 {
  for (let first: usize = 0; first < count; first += pagePositions, pages += 4) {
    memory.copy(into + first, (load<u32>(pages) as usize) + valueExponents, pagePositions);
  }
  let largest: i32 = -128;
  for (let j: usize = 0; j < count; j++) largest = max(largest, load<i8>(into + j) as i32);
  return largest;
}

/** Softmax weights, brought to the values' largest exponent and split into limbs; returns the sum of all weights. */
function weighAll(
  scores: usize,
  exp2: usize,
  valueExponents: usize,
  exponent: i32,
  count: usize,
  low: usize,
  high: usize,
): i64 {
  let best = noScore;
  for (let j: usize = 0; j < count; j++) best = max(best, load<i32>(scores + 4 * j) as i64);
  const whole = count & ~3;
  let totals = i64x2.splat(0);
  for (let j: usize = 0; j < whole; j += 4) {
    const weights = fourWeights(i32x4.sub(i32x4.splat(best as i32), v128.load(scores + 4 * j)), exp2);
    totals = i64x2.add(totals, i64x2.extend_low_i32x4_s(weights));
    totals = i64x2.add(totals, i64x2.extend_high_i32x4_s(weights));
    const drops = i32x4.sub(fourExponents(valueExponents + j), i32x4.splat(exponent));
    const first = f64x2.mul(f64x2.convert_low_i32x4_s(weights), powers(drops));
    const last = f64x2.mul(highDoubles(weights), highPowers(drops));
    const aligned = clampAll(first, last, i32x4.splat(0x7fffffff));
    const lowBits = v128.and(aligned, i32x4.splat((1 << (limbBits as i32)) - 1));
    const limbs = i16x8.narrow_i32x4_s(lowBits, i32x4.shr_u(aligned, limbBits as i32));
    v128.store64_lane(low + 2 * j, limbs, 0);
    v128.store64_lane(high + 2 * j, limbs, 1);
  }
  let total = i64x2.extract_lane(totals, 0) + i64x2.extract_lane(totals, 1);
  for (let j: usize = whole; j < count; j++) {
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

/** 2^(−distance / 1024) with 24 fractional bits, for distances of 32 bits without a sign. */
function fourWeights(distances: v128, exp2: usize): v128 {
  const isNear = i32x4.lt_u(distances, i32x4.splat(26 << 10));
  const index = v128.and(distances, i32x4.splat(1023));
  let entries = v128.load32_zero(exp2 + 4 * (i32x4.extract_lane(index, 0) as usize));
  entries = v128.load32_lane(exp2 + 4 * (i32x4.extract_lane(index, 1) as usize), entries, 1);
  entries = v128.load32_lane(exp2 + 4 * (i32x4.extract_lane(index, 2) as usize), entries, 2);
  entries = v128.load32_lane(exp2 + 4 * (i32x4.extract_lane(index, 3) as usize), entries, 3);
  const shifts = v128.and(i32x4.shr_u(distances, 10), isNear);
  const max = i32x4.splat(0x7fffffff);
  // A shift by 0 adds a half and drops it.
  const weights = scaleAll(f64x2.convert_low_i32x4_s(entries), highDoubles(entries), shifts, max);
  return v128.and(weights, isNear);
}

/** sums[h][i] = Σ weight · value, two pages at a time. */
function sumAll(
  pages: usize,
  values: usize,
  heads: usize,
  headDim: usize,
  low: usize,
  high: usize,
  room: usize,
  pairs: usize,
  sums: usize,
): void {
  for (let from: usize = 0; from < pairs; from += pairsPerFlush) {
    const to = min(pairs, from + pairsPerFlush);
    const table = pages + 4 * (from / pairsPerPage);
    const first = (load<u32>(table) as usize) + values;
    const middle = min(to, from + pairsPerPage);
    const second = middle < to ? (load<u32>(table, 4) as usize) + values : first;
    if (from + pairsPerFlush < pairs) touch((load<u32>(table, 8) as usize) + values, headDim);
    if (from + pairsPerFlush + pairsPerPage < pairs) touch((load<u32>(table, 12) as usize) + values, headDim);
    for (let h: usize = 0; h < heads; h++) {
      const lowFrom = low + 2 * room * h + 4 * from;
      const highFrom = high + 2 * room * h + 4 * from;
      for (let channel: usize = 0; channel < headDim; channel += 16) {
        const at = sums + 8 * (headDim * h + channel);
        sumChannels(
          first + 4 * channel,
          second + 4 * channel,
          4 * headDim,
          lowFrom,
          highFrom - lowFrom,
          middle - from,
          to - middle,
          at,
        );
      }
    }
  }
}

/** sums[i] += Σ weight · value over the pairs of positions of two pages, for 16 channels. */
function sumChannels(
  first: usize,
  second: usize,
  stride: usize,
  low: usize,
  high: usize,
  firstPairs: usize,
  secondPairs: usize,
  sums: usize,
): void {
  let l0 = i32x4.splat(0);
  let l1 = l0;
  let l2 = l0;
  let l3 = l0;
  let h0 = l0;
  let h1 = l0;
  let h2 = l0;
  let h3 = l0;
  let at = first;
  let end = low + 4 * firstPairs;
  for (;;) {
    for (; low < end; low += 4, at += stride) {
      const lowWeights = v128.load32_splat(low);
      const highWeights = v128.load32_splat(low + high);
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
    if (secondPairs == 0) break;
    at = second;
    end = low + 4 * secondPairs;
    secondPairs = 0;
  }
  flush(sums, l0, h0);
  flush(sums + 32, l1, h1);
  flush(sums + 64, l2, h2);
  flush(sums + 96, l3, h3);
}

/** Adds low + 2^12 · high of four channels. */
function flush(sums: usize, low: v128, high: v128): void {
  const first = i64x2.add(i64x2.extend_low_i32x4_s(low), i64x2.shl(i64x2.extend_low_i32x4_s(high), 12));
  const second = i64x2.add(i64x2.extend_high_i32x4_s(low), i64x2.shl(i64x2.extend_high_i32x4_s(high), 12));
  v128.store(sums, i64x2.add(v128.load(sums), first));
  v128.store(sums, i64x2.add(v128.load(sums, 16), second), 16);
}
