import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SkeinError } from "../../util/errors.ts";
import { floorLog2, quantizeBias, quantizeNorm, quantizeRow, roundHalfAway } from "./quantize.ts";

const weight = fc.oneof(
  fc.double({ min: -2, max: 2, noNaN: true }),
  fc.double({ min: -1e18, max: 1e18, noNaN: true }),
  fc.double({ min: -1e-30, max: 1e-30, noNaN: true }),
  fc.constantFrom(0, 1, -1, 2 ** -40, Number.MIN_VALUE),
);
const rows = fc.array(weight, { minLength: 1, maxLength: 20 }).map((values) => Float64Array.from(values));

test("rounding is to the nearest integer, halves away from zero, for every double", () => {
  const belowHalf = 0.5 - 2 ** -54;
  for (const [x, rounded] of [
    [0.5, 1],
    [-0.5, -1],
    [1.5, 2],
    [-2.5, -3],
    [belowHalf, 0],
    [-belowHalf, 0],
    [2 ** 52 + 1, 2 ** 52 + 1],
    [-(2 ** 53 - 1), -(2 ** 53 - 1)],
  ] as const) {
    assert.ok(Object.is(roundHalfAway(x), rounded), `${x}`);
  }
  fc.assert(
    fc.property(
      fc.integer({ min: -1e9, max: 1e9 }),
      fc.double({ min: -0.499, max: 0.499, noNaN: true }),
      (n, part) => assert.equal(roundHalfAway(n + part), n),
    ),
  );
});

test("binary logarithms are those of the number's own bits", () => {
  for (const e of [-1022, -1, 0, 1, 52, 1023]) {
    assert.equal(floorLog2(2 ** e), e);
    if (e < 1023) assert.equal(floorLog2(2 ** (e + 1) * (1 - 2 ** -53)), e);
  }
});

test("rows come back within half a step, on a grid of 15-bit multipliers", () => {
  fc.assert(
    fc.property(rows, (row) => {
      const weights = new Int8Array(row.length);
      const { multiplier, exponent } = quantizeRow(row, weights);
      assert.ok(multiplier >= 2 ** 14 && multiplier < 2 ** 15 && Number.isInteger(multiplier));
      assert.ok(exponent >= -126 && exponent <= 63);
      const step = multiplier * 2 ** exponent;
      const isZero = weights.every((value) => value === 0);
      // The largest weight may lie half a step of the multiplier's own rounding beyond the grid's end.
      const off = step * (0.5 + 127 * 2 ** -15);
      for (const [i, value] of row.entries()) {
        assert.ok(weights[i]! >= -127);
        if (!isZero) assert.ok(Math.abs(weights[i]! * step - value) <= off, `${value}`);
        else assert.ok(Math.abs(value) < 127 * 2 ** -111);
      }
    }),
    { numRuns: 2_000 },
  );
});

test("norms share one exponent and keep 22 bits at least of the largest weight", () => {
  fc.assert(
    fc.property(rows, (row) => {
      const { mantissas, exponent } = quantizeNorm(row);
      const largest = row.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      const unit = 2 ** exponent;
      assert.ok(exponent >= -126 && exponent <= 63);
      for (const [i, value] of row.entries()) {
        assert.ok(Math.abs(mantissas[i]!) < 2 ** 23);
        assert.ok(Math.abs(mantissas[i]! * unit - value) <= unit, `${value}`);
      }
      if (largest > 2 ** -100) assert.ok(unit <= largest * 2 ** -21);
    }),
    { numRuns: 2_000 },
  );
});

test("weights beyond every exponent are refused", () => {
  const refused = (quantize: () => unknown): void =>
    assert.throws(quantize, (error) => error instanceof SkeinError && error.code === "invalid_model_file");
  refused(() => quantizeRow(Float64Array.of(1e30), new Int8Array(1)));
  refused(() => quantizeNorm(Float64Array.of(-1e30)));
  refused(() => quantizeBias(Float64Array.of(1_025), 16, 26));
  assert.deepEqual(
    quantizeBias(Float64Array.of(-1_023.5, 0.5 / 65_536), 16, 26),
    Int32Array.of(-67_076_096, 1),
  );
});
