/**
 * Elementary functions in big fixed-point integers, where results must not depend on a floating-point library: those
 * differ in the last bits of exp, log, pow and sin. Each keeps all but its last few bits right.
 */
export interface FixedPoint {
  /** 1; all values are multiples of 1 / `one`. */
  readonly one: bigint;
  readonly ln2: bigint;
  readonly multiply: (a: bigint, b: bigint) => bigint;
  readonly divide: (a: bigint, b: bigint) => bigint;
  /** e^−x, 0 ≤ x ≤ 1. */
  readonly expMinus: (x: bigint) => bigint;
  /** 2·artanh(z) = ln((1 + z) / (1 − z)), |z| < 1. */
  readonly twiceArtanh: (z: bigint) => bigint;
  /** ln(x), x > 0. */
  readonly ln: (x: bigint) => bigint;
}

/** @param bits fractional bits */
export function fixedPoint(bits: bigint): FixedPoint {
  const one = 1n << bits;
  const half = one >> 1n;
  const multiply = (a: bigint, b: bigint): bigint => (a * b) >> bits;
  const divide = (a: bigint, b: bigint): bigint => (a << bits) / b;

  function expMinus(x: bigint): bigint {
    let sum = 0n;
    let term = one;
    for (let n = 1n; term !== 0n; n++) {
      sum += n % 2n === 1n ? term : -term;
      term = multiply(term, x) / n;
    }
    return sum;
  }

  function twiceArtanh(z: bigint): bigint {
    const square = multiply(z, z);
    let sum = 0n;
    let power = z;
    for (let n = 1n; power !== 0n && power !== -1n; n += 2n) {
      sum += power / n;
      power = multiply(power, square);
    }
    return 2n * sum;
  }

  const ln2 = twiceArtanh(one / 3n);

  /** Brought near 1 first, where the series is quick. */
  function ln(given: bigint): bigint {
    let doublings = 0n;
    let x = given;
    for (; x > one + half; doublings++) x /= 2n;
    for (; x < one - half / 2n; doublings--) x *= 2n;
    return doublings * ln2 + twiceArtanh(divide(x - one, x + one));
  }

  return { one, ln2, multiply, divide, expMinus, twiceArtanh, ln };
}
