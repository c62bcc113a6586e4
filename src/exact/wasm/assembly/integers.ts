/** The primitives of ops/integers.ts on 64-bit integers. */

/** Clamps to ±max. */
export function clamp(v: i64, max: i64): i64 {
  return v > max ? max : v < -max ? -max : v;
}

/** v / 2^shift, halves upwards; beyond 52 nothing of |v| ≤ 2^52 is left. */
export function roundShift(v: i64, shift: i32): i64 {
  if (shift <= 0) return v;
  return shift > 52 ? 0 : (v + ((1 as i64) << ((shift - 1) as i64))) >> (shift as i64);
}

/** `roundShift` within ±max, max < 2^31; a negative shift multiplies. Small, so that it is inlined. */
export function scaleTo(v: i64, shift: i32, max: i64): i64 {
  if (shift < 1 || shift > 52) return scaleFar(v, shift, max);
  return clamp((v + ((1 as i64) << ((shift - 1) as i64))) >> (shift as i64), max);
}

function scaleFar(v: i64, shift: i32, max: i64): i64 {
  if (shift > 52) return 0;
  // Whatever is cut here would be out of range after a shift by one, too.
  const left = (shift < -31 ? 31 : -shift) as i64;
  return clamp(clamp(v, 1 << 31) << left, max);
}

export function bitLength(v: i64): i32 {
  return 64 - (clz(v < 0 ? -v : v) as i32);
}

/** Floor of the square root, 0 ≤ v < 2^53: the correctly rounded root is at most one too large. */
export function integerSqrt(v: i64): i64 {
  let root = sqrt<f64>(v as f64) as i64;
  while (root * root > v) root -= 1;
  while ((root + 1) * (root + 1) <= v) root += 1;
  return root;
}

/** Sum of the four lanes, each of which may be anything. */
export function sumOfLanes(v: v128): i64 {
  const wide = i64x2.add(i64x2.extend_low_i32x4_s(v), i64x2.extend_high_i32x4_s(v));
  return i64x2.extract_lane(wide, 0) + i64x2.extract_lane(wide, 1);
}
