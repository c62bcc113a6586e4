/**
 * Every entry of every table against the mathematical function, by other ways than tables.ts goes: with integers where a
 * power decides it, else with floating point, and some with 80 digits.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { exp2Entries, exp2Table, gumbelTable, quarterSineTable, sigmoidTable } from "./tables.ts";

/** Fractional decimal digits. */
const digits = 80n;
const one = 10n ** digits;
const pi = BigInt("314159265358979323846264338327950288419716939937510582097494459230781640628620899");
const e = BigInt("271828182845904523536028747135266249775724709369995957496696762772407663035354759");
const ln2 = BigInt("69314718055994530941723212145817656807550013436025525412068000949339362196969472");

const multiply = (a: bigint, b: bigint): bigint => (a * b) / one;
const divide = (a: bigint, b: bigint): bigint => (a * one) / b;

/** e^x by squaring: the series of x / 2^40 needs few terms. */
function exp(x: bigint): bigint {
  const small = x / 2n ** 40n;
  let term = one;
  let power = one;
  for (let n = 1n; term !== 0n; n++) {
    term = multiply(term, small) / n;
    power += term;
  }
  for (let i = 0; i < 40; i++) power = multiply(power, power);
  return power;
}

/** ln(x) by Newton's method on exp, from a double. */
function ln(x: bigint): bigint {
  const guess = Math.log(Number(x / 10n ** 60n) / 1e20);
  let y = (BigInt(Math.round(guess * 1e15)) * one) / 10n ** 15n;
  for (let i = 0; i < 4; i++) {
    const power = exp(y);
    y += 2n * divide(x - power, x + power);
  }
  return y;
}

/** sin(x), 0 ≤ x ≤ π/2, by thirds: sin(3x) = 3 sin(x) − 4 sin³(x). */
function sin(x: bigint): bigint {
  const small = x / 3n ** 20n;
  let sine = small - multiply(small, multiply(small, small)) / 6n;
  for (let i = 0; i < 20; i++) sine = 3n * sine - 4n * multiply(sine, multiply(sine, sine));
  return sine;
}

/** Distance of a value (with `digits` digits) from an integer; at most a half where the integer is its rounding. */
function isRounded(entry: number, value: bigint): boolean {
  const off = 2n * (value - BigInt(entry) * one);
  // Squarings and thirds cost some digits; nothing comes near enough to a half for them to matter.
  const doubt = 10n ** 50n;
  const size = off < 0n ? -off : off;
  assert.ok(size > one + doubt || size < one - doubt, "too near to a half to decide");
  return size < one;
}

/** No value is nearer to a half, so that floating point decides; some are computed with all digits nevertheless. */
const halfDistanceMin = 2 ** -16;

function checkAll(
  table: Int32Array,
  approximate: (i: number) => number,
  precise: (i: number) => bigint,
): void {
  for (const [i, entry] of table.entries()) {
    const off = Math.abs(approximate(i) - entry);
    assert.ok(off < 0.5 - halfDistanceMin, `entry ${i} is ${entry}, ${off} off`);
    if (i % Math.ceil(table.length / 64) === 0) assert.ok(isRounded(entry, precise(i)), `entry ${i}`);
  }
}

test("the digits used here fit together", () => {
  const near = (a: bigint, b: bigint): boolean => (a > b ? a - b : b - a) < 10n ** 55n;
  assert.ok(near(exp(one), e));
  assert.ok(near(exp(ln2), 2n * one));
  assert.ok(near(ln(2n * one), ln2));
  assert.ok(near(sin(pi / 6n), one / 2n));
});

test("powers of two: an entry's halves, to the 1024th power, enclose a power of two", () => {
  assert.equal(exp2Table.length, exp2Entries);
  for (const [i, entry] of exp2Table.entries()) {
    const power = 1n << (25n * 1024n - BigInt(i));
    assert.ok((2n * BigInt(entry) - 1n) ** 1024n < power, `entry ${i}`);
    assert.ok((2n * BigInt(entry) + 1n) ** 1024n > power, `entry ${i}`);
  }
});

test("sigmoids", () => {
  checkAll(
    sigmoidTable,
    (i) => 2 ** 15 / (1 + Math.exp(-(i + 0.5) / 256)),
    (i) => divide(2n ** 15n * one, one + divide(one, exp(((2n * BigInt(i) + 1n) * one) / 512n))),
  );
});

test("sines of a quarter turn, both ends included", () => {
  assert.equal(quarterSineTable.length, 1_025);
  assert.equal(quarterSineTable[0], 0);
  assert.equal(quarterSineTable[1_024], 2 ** 30);
  checkAll(
    quarterSineTable,
    (i) => 2 ** 30 * Math.sin((Math.PI / 2) * (i / 1_024)),
    (i) => 2n ** 30n * sin((pi * BigInt(i)) / 2_048n),
  );
});

test("quantiles of the Gumbel distribution, all 65,536", () => {
  const table = gumbelTable();
  assert.equal(table, gumbelTable());
  assert.equal(table.length, 65_536);
  assert.deepEqual([table[0], table[65_535]], [-10_104, 48_265]);
  checkAll(
    table,
    (i) => -4_096 * Math.log(-Math.log((i + 0.5) / 65_536)),
    (i) => -4_096n * ln(17n * ln2 - ln((2n * BigInt(i) + 1n) * one)),
  );
  for (let i = 1; i < table.length; i++) assert.ok(table[i]! >= table[i - 1]!);
});
