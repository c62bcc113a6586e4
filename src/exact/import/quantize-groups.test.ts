import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { GroupMatrix } from "../model/model.ts";
import { fourBitWeight } from "../ops/operations.ts";
import { quantizeGroups } from "./quantize-groups.ts";

const weight = fc.double({ min: -4, max: 4, noNaN: true });
const rowOf = (groups: number) => fc.array(weight, { minLength: 32 * groups, maxLength: 32 * groups });

function quantized(given: readonly number[]) {
  const row = Float64Array.from(given);
  const weights = new Uint8Array(row.length / 2);
  const scales = new Int8Array(row.length / 32);
  const { multiplier, exponent } = quantizeGroups(row, weights, scales);
  const stored = row.map(
    (_, i) => fourBitWeight({ weights } as GroupMatrix, i) * scales[i >> 5]! * multiplier * 2 ** exponent + 0,
  );
  return { row: row.map((value) => value + 0), scales, multiplier, exponent, stored };
}

test("a row becomes what is stored, in numbers that a file may hold", () => {
  fc.assert(
    fc.property(rowOf(3), (given) => {
      const { row, stored, scales, multiplier } = quantized(given);
      assert.deepEqual(row, stored);
      assert.ok(!scales.includes(-128));
      assert.ok(multiplier >= 2 ** 12 && multiplier < 2 ** 13);
    }),
    { numRuns: 300 },
  );
});

test("the error is about that of sixteen even steps from the largest weight on, or less", () => {
  fc.assert(
    fc.property(rowOf(1), (given) => {
      const { row } = quantized(given);
      const largest = given.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
      const step = largest / -8;
      let [error, plain] = [0, 0];
      for (const [i, value] of given.entries()) {
        error += (row[i]! - value) ** 2;
        plain += (step === 0 ? 0 : value - step * Math.max(-8, Math.min(7, Math.round(value / step)))) ** 2;
      }
      // The scale itself is rounded, to 13 bits and one in 127.
      assert.ok(error <= plain * 1.02 + (largest / 1000) ** 2 + 1e-60, `${error} > ${plain}`);
    }),
    { numRuns: 300 },
  );
});

test("rows of zeros, groups of zeros, and groups far below the others", () => {
  const zeros = Array<number>(32).fill(0);
  const ones = zeros.map((_, i) => (i % 2 === 0 ? 1 : -1));
  const nothing = quantized([...zeros, ...zeros]);
  assert.deepEqual([nothing.multiplier, nothing.exponent], [2 ** 12, 0]);
  assert.ok(nothing.stored.every((value) => value === 0));
  const half = quantized([...ones, ...zeros, ...ones.map((value) => value * 1e-6)]);
  assert.deepEqual([...half.scales.subarray(1)], [0, 0]);
  assert.ok(half.stored.subarray(0, 32).every((value, i) => Math.abs(value - ones[i]!) < 1e-3));
});

test("what four bits can hold is kept but for its scale, one in 127", () => {
  const integers = Array.from({ length: 64 }, (_, i) => (i < 32 ? (i % 16) - 8 : (8 - (i % 16)) * 2));
  const { stored } = quantized(integers);
  for (const [i, value] of integers.entries()) {
    assert.ok(Math.abs(stored[i]! - value) <= Math.abs(value) / 120, `${stored[i]} ${value}`);
  }
});
