/**
 * The constant tables (docs/EXACT.md, "Tables"), computed with big integers: floating-point libraries differ in the
 * last bits of exp, log and sin. Each entry is the true value rounded to the nearest integer; the recurrences below
 * keep an error of less than 2^−80, and no true value lies that near to a half.
 */

import { fixedPoint } from "../../util/fixed-point.ts";

/** Fractional bits while computing. */
const precision = 128n;
const { one, ln2, multiply, divide, expMinus, twiceArtanh, ln } = fixedPoint(precision);

/** To an integer with `bits` fractional bits; halves upwards. */
const rounded = (a: bigint, bits: bigint): number =>
  Number((a + (1n << (precision - bits - 1n))) >> (precision - bits));

/** Machin, 1706. */
const pi: bigint = 4n * (4n * arctanOfInverse(5n) - arctanOfInverse(239n));

function arctanOfInverse(n: bigint): bigint {
  let sum = 0n;
  let power = one / n;
  for (let k = 1n; power !== 0n; k += 2n) {
    sum += k % 4n === 1n ? power / k : -(power / k);
    power /= n * n;
  }
  return sum;
}

/** Number of entries of `exp2Table`; the index is the fraction of a power of two. */
export const exp2Entries = 1024;
/** `exp2Table[i] = 2^24 · 2^(−i / 1024)`. */
export const exp2Table: Int32Array = geometric(
  exp2Entries,
  one,
  expMinus(ln2 / BigInt(exp2Entries)),
  (value) => rounded(value, 24n),
);

export const sigmoidEntries = 4096;
/** `sigmoidTable[i] = 2^15 / (1 + e^(−(i + 1/2) / 256))`. */
export const sigmoidTable: Int32Array = geometric(
  sigmoidEntries,
  expMinus(one / 512n),
  expMinus(one / 256n),
  (power) => rounded(divide(one, one + power), 15n),
);

function geometric(
  entries: number,
  first: bigint,
  ratio: bigint,
  entryOf: (power: bigint) => number,
): Int32Array {
  let power = first;
  return Int32Array.from({ length: entries }, () => {
    const entry = entryOf(power);
    power = multiply(power, ratio);
    return entry;
  });
}

export const quarterSineEntries = 1024;
/** `quarterSineTable[i] = 2^30 · sin(π/2 · i / 1024)`, one entry more than a quarter has steps. */
export const quarterSineTable: Int32Array = makeQuarterSine();

function makeQuarterSine(): Int32Array {
  const step = pi / BigInt(2 * quarterSineEntries);
  const [sinStep, cosStep] = [
    sinSeries(step),
    one - 2n * multiply(sinSeries(step / 2n), sinSeries(step / 2n)),
  ];
  let [sin, cos] = [0n, one];
  return Int32Array.from({ length: quarterSineEntries + 1 }, () => {
    const entry = rounded(sin, 30n);
    const next = multiply(sin, cosStep) + multiply(cos, sinStep);
    cos = multiply(cos, cosStep) - multiply(sin, sinStep);
    sin = next;
    return entry;
  });
}

function sinSeries(x: bigint): bigint {
  const square = multiply(x, x);
  let sum = 0n;
  let term = x;
  for (let n = 1n; term !== 0n; n += 2n) {
    sum += n % 4n === 1n ? term : -term;
    term = multiply(term, square) / ((n + 1n) * (n + 2n));
  }
  return sum;
}

export const gumbelEntries = 65_536;
let gumbel: Int32Array | null = null;

/**
 * `gumbelTable()[i] = −2^12 · ln(−ln((i + 1/2) / 65536))`: the quantiles of the Gumbel distribution in Q12. Made at
 * the first call; it takes some tenths of a second.
 */
export function gumbelTable(): Int32Array {
  gumbel ??= makeGumbel();
  return gumbel;
}

function makeGumbel(): Int32Array {
  // −ln((2i + 1) / 2^17): 17 ln 2 at first, then less by 2·artanh(1 / (2i + 2)) at each step.
  let exponential = 17n * ln2;
  let logarithm = ln(exponential);
  return Int32Array.from({ length: gumbelEntries }, (_, i) => {
    const entry = Number(-((logarithm + (1n << (precision - 13n))) >> (precision - 12n)));
    const next = exponential - twiceArtanh(one / BigInt(2 * i + 2));
    if (i + 1 < gumbelEntries) logarithm += twiceArtanh(divide(next - exponential, next + exponential));
    exponential = next;
    return entry;
  });
}

let gumbelTail: Int32Array | null = null;

/**
 * The last of `gumbelTable`'s cells once more, in 65,536 cells of its own:
 * `gumbelTailTable()[i] = −2^12 · ln(−ln(1 − (65536 − i − 1/2) / 2^32))`. Tokens with a probability below 10^−5 are drawn there; together
 * they may have a large one. Made at the first call.
 */
export function gumbelTailTable(): Int32Array {
  gumbelTail ??= makeGumbelTail();
  return gumbelTail;
}

function makeGumbelTail(): Int32Array {
  let exponential = tailExponential(0);
  let logarithm = ln(exponential);
  return Int32Array.from({ length: gumbelEntries }, (_, i) => {
    const entry = Number(-((logarithm + (1n << (precision - 13n))) >> (precision - 12n)));
    if (i + 1 < gumbelEntries) {
      const next = tailExponential(i + 1);
      logarithm += twiceArtanh(divide(next - exponential, next + exponential));
      exponential = next;
    }
    return entry;
  });
}

/** −ln(1 − x) by its series, x = (2 · (65536 − i) − 1) / 2^33. */
function tailExponential(i: number): bigint {
  const x = (BigInt(2 * (gumbelEntries - i) - 1) * one) >> 33n;
  let sum = 0n;
  let power = x;
  for (let n = 1n; power !== 0n; n++) {
    sum += power / n;
    power = multiply(power, x);
  }
  return sum;
}
