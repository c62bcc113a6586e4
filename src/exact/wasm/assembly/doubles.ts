/**
 * Integers of up to 53 bits in doubles, two in a vector: sums, products, and products with powers of two are exact as long as they fit, so these are the
 * functions of integers.ts to the bit. Vectors of 64-bit integers have neither a quick product nor a shift for each lane.
 */

/** Exponent of 1 in a double, and where it stands. */
const one: i32 = 1023;
const exponentAt: i32 = 52;
/** 2^52 + 2^51 as the bits of a double: what is added to the lowest of them, is added to the number. */
const middle: i64 = 0x4338000000000000;

/** Shifts for which `scaleAll` holds. */
export const shiftsMax: i32 = 52;

/** Whether `scaleAll` can take these: all from 1 to 52. */
export function areUsual(shifts: v128): bool {
  return i32x4.all_true(i32x4.lt_u(i32x4.sub(shifts, i32x4.splat(1)), i32x4.splat(shiftsMax)));
}

/** Two 64-bit integers below 2^51. */
export function doublesOf(integers: v128): v128 {
  const magic = i64x2.splat(middle);
  return f64x2.sub(i64x2.add(integers, magic), magic);
}

/** Lanes 2 and 3 of 32-bit integers. */
export function highDoubles(integers: v128): v128 {
  return f64x2.convert_low_i32x4_s(v128.shuffle<i64>(integers, integers, 1, 1));
}

/** 2^exponents of lanes 0 and 1. */
export function powers(exponents: v128): v128 {
  return i64x2.shl(i64x2.extend_low_i32x4_s(i32x4.add(exponents, i32x4.splat(one))), exponentAt);
}

/** 2^exponents of lanes 2 and 3. */
export function highPowers(exponents: v128): v128 {
  return i64x2.shl(i64x2.extend_high_i32x4_s(i32x4.add(exponents, i32x4.splat(one))), exponentAt);
}

/** `scaleTo` of four numbers, two in `low` and two in `high`, each with its own shift. Below 2^52; see `areUsual`. */
export function scaleAll(low: v128, high: v128, shifts: v128, max: v128): v128 {
  const halves = i32x4.sub(shifts, i32x4.splat(1));
  const down = i32x4.neg(shifts);
  low = f64x2.mul(f64x2.add(low, powers(halves)), powers(down));
  high = f64x2.mul(f64x2.add(high, highPowers(halves)), highPowers(down));
  return clampAll(low, high, max);
}

/** Rounded down, within ±max, which is below 2^31. */
export function clampAll(low: v128, high: v128, max: v128): v128 {
  const first = i32x4.trunc_sat_f64x2_s_zero(f64x2.floor(low));
  const last = i32x4.trunc_sat_f64x2_s_zero(f64x2.floor(high));
  return i32x4.max_s(i32x4.min_s(v128.shuffle<i64>(first, last, 0, 2), max), i32x4.neg(max));
}

/** The larger of two vectors' sizes, lane by lane. */
export function largerOf(largest: v128, numbers: v128): v128 {
  return f64x2.pmax(largest, f64x2.abs(numbers));
}

/** Bits of the larger lane, an integer. */
export function bitsOfLargest(largest: v128): i32 {
  const most = max<f64>(f64x2.extract_lane(largest, 0), f64x2.extract_lane(largest, 1));
  return most == 0 ? 0 : ((reinterpret<i64>(most) >> exponentAt) as i32) - one + 1;
}

/** 2^exponent. */
export function power(exponent: i32): f64 {
  return reinterpret<f64>(((exponent + one) as i64) << exponentAt);
}
