import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { GroupMatrix } from "../model/model.ts";
import { bigBlockOf, bigLinear } from "./big.suite.ts";
import type { Block } from "./integers.ts";
import { fourBitWeight, linear } from "./operations.ts";

const whole = (min: number, max: number, length: number) =>
  fc.array(fc.oneof(fc.integer({ min, max }), fc.constantFrom(min, max)), {
    minLength: length,
    maxLength: length,
  });
const exponent = fc.oneof(fc.integer({ min: -40, max: -5 }), fc.integer({ min: -128, max: 127 }));

function groupsOf(rows: number, columns: number): fc.Arbitrary<GroupMatrix> {
  return fc
    .record({
      weights: whole(0, 255, (rows * columns) / 2),
      scales: whole(-127, 127, (rows * columns) / 32),
      multipliers: whole(2 ** 12, 2 ** 13 - 1, rows),
      exponents: fc.array(exponent, { minLength: rows, maxLength: rows }),
      bias: fc.option(whole(1 - 2 ** 26, 2 ** 26 - 1, rows)),
    })
    .map(({ weights, scales, multipliers, exponents, bias }) => ({
      format: "int4-group32",
      rows,
      columns,
      weights: Uint8Array.from(weights),
      scales: Int8Array.from(scales),
      multipliers: Int16Array.from(multipliers),
      exponents: Int8Array.from(exponents),
      bias: bias === null ? null : Int32Array.from(bias),
    }));
}

function same(matrix: GroupMatrix, x: Block, fraction: number, bits: number): void {
  const expected = bigLinear(matrix, bigBlockOf(x), BigInt(fraction), BigInt(bits));
  assert.deepEqual(Array.from(linear(matrix, x, fraction, bits), BigInt), expected);
}

test("linear with four bits: the integers' sum, scaled once", () => {
  const formats = fc.constantFrom<[number, number]>([16, 26], [12, 26], [14, 31]);
  const block = fc.record({
    mantissas: whole(-8191, 8191, 96).map((values) => Int16Array.from(values)),
    exponent,
  });
  fc.assert(
    fc.property(groupsOf(3, 96), block, formats, (matrix, x, [fraction, bits]) =>
      same(matrix, x, fraction, bits),
    ),
    { numRuns: 300 },
  );
});

test("linear with four bits: 65,536 columns of the largest numbers stay below 2^52", () => {
  const columns = 65_536;
  for (const mantissa of [8191, -8191]) {
    const matrix: GroupMatrix = {
      format: "int4-group32",
      rows: 2,
      columns,
      weights: new Uint8Array(columns).fill(0x88),
      scales: new Int8Array(columns / 16).fill(-127),
      multipliers: Int16Array.of(2 ** 13 - 1, 2 ** 13 - 1),
      exponents: Int8Array.of(-50, -20),
      bias: null,
    };
    same(matrix, { mantissas: new Int16Array(columns).fill(mantissa), exponent: 0 }, 14, 31);
  }
});

test("of each byte the lower half comes first, in two's complement", () => {
  const matrix = { weights: Uint8Array.of(0x80, 0x7f, 0x10) } as GroupMatrix;
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5].map((index) => fourBitWeight(matrix, index)),
    [0, -8, -1, 7, 0, 1],
  );
});
