import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bigBlock, bigRoundShift, bigSaturate, bigScale, bigSqrt, bits } from "./big.suite.ts";
import { bitLength, floorShift, integerSqrt, roundShift, saturate, scaleTo, toBlock } from "./integers.ts";

/** Integers of `size` bits, often at a power of two or beside one. */
function wholes(size: number): fc.Arbitrary<number> {
  const limit = 2 ** size - 1;
  const near = fc
    .tuple(fc.integer({ min: 0, max: size }), fc.integer({ min: -2, max: 2 }), fc.constantFrom(-1, 1))
    .map(([power, off, sign]) => Math.max(-limit, Math.min(limit, sign * (2 ** power + off))));
  return fc.oneof(
    near,
    fc.maxSafeInteger().map((v) => v % (limit + 1)),
  );
}

const many = { numRuns: 5_000 };

test("bit lengths are those of the binary digits", () => {
  for (const v of [0, 1, 2, 255, 256, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53]) {
    assert.equal(BigInt(bitLength(v)), bits(BigInt(v)), String(v));
  }
  fc.assert(
    fc.property(wholes(53), (v) => assert.equal(BigInt(bitLength(v)), bits(BigInt(v)))),
    many,
  );
});

test("saturating clamps to a symmetric range and knows no negative zero", () => {
  assert.ok(Object.is(saturate(-0, 5), 0));
  fc.assert(
    fc.property(wholes(53), fc.integer({ min: 0, max: 31 }), (v, keep) =>
      assert.equal(BigInt(saturate(v, keep)), bigSaturate(BigInt(v), BigInt(keep))),
    ),
    many,
  );
});

test("rounding shifts are (v + half) >> shift for all |v| below 2^52", () => {
  assert.equal(roundShift(2 ** 52 - 1, 52), 1);
  assert.equal(roundShift(2 ** 52 - 1, 53), 0);
  assert.equal(roundShift(-(2 ** 51), 52), 0);
  assert.equal(roundShift(-(2 ** 51) - 1, 52), -1);
  assert.ok(Object.is(roundShift(-1, 40), 0));
  fc.assert(
    fc.property(wholes(52), fc.integer({ min: 0, max: 200 }), (v, shift) => {
      const shifted = roundShift(v, shift);
      assert.equal(BigInt(shifted), bigRoundShift(BigInt(v), BigInt(shift)));
      assert.ok(!Object.is(shifted, -0));
    }),
    many,
  );
});

test("shifts to the left saturate, however far they go", () => {
  fc.assert(
    fc.property(
      wholes(52),
      fc.integer({ min: -400, max: 400 }),
      fc.integer({ min: 1, max: 31 }),
      (v, shift, keep) => {
        const scaled = scaleTo(v, shift, keep);
        assert.equal(BigInt(scaled), bigScale(BigInt(v), BigInt(shift), BigInt(keep)));
        assert.ok(!Object.is(scaled, -0));
      },
    ),
    many,
  );
});

test("floors go towards minus infinity", () => {
  fc.assert(
    fc.property(wholes(53), fc.integer({ min: 0, max: 60 }), (v, shift) =>
      assert.equal(BigInt(floorShift(v, shift)), BigInt(v) >> BigInt(shift)),
    ),
    many,
  );
});

test("square roots are exact beside squares, up to 2^53", () => {
  const rootMax = 94_906_265;
  for (const root of [0, 1, 2, 2 ** 26 - 1, 2 ** 26, rootMax]) {
    for (const v of [root * root - 1, root * root, root * root + 2 * root]) {
      if (v >= 0 && v < 2 ** 53) assert.equal(BigInt(integerSqrt(v)), bigSqrt(BigInt(v)), String(v));
    }
  }
  fc.assert(
    fc.property(fc.integer({ min: 1, max: rootMax }), fc.integer({ min: -1, max: 1 }), (root, off) =>
      assert.equal(integerSqrt(root * root + off), off < 0 ? root - 1 : root),
    ),
    many,
  );
  fc.assert(
    fc.property(wholes(52), (v) =>
      assert.equal(BigInt(integerSqrt(Math.abs(v))), bigSqrt(BigInt(Math.abs(v)))),
    ),
    many,
  );
});

test("blocks keep the largest number's bits, and every number within half of its unit", () => {
  fc.assert(
    fc.property(
      fc.array(wholes(52), { minLength: 1, maxLength: 9 }),
      fc.integer({ min: -200, max: 200 }),
      fc.constantFrom(12, 14),
      (values, exponent, keep) => {
        const block = toBlock(values, exponent, keep);
        const expected = bigBlock(values.map(BigInt), BigInt(exponent), BigInt(keep));
        assert.deepEqual(Array.from(block.mantissas, BigInt), expected.mantissas);
        assert.equal(BigInt(block.exponent), expected.exponent);
        const unit = 2 ** (block.exponent - exponent);
        // A value just below a power of two may round to it, which is not kept: one unit at most.
        for (const [i, value] of values.entries()) {
          assert.ok(Math.abs(block.mantissas[i]! * unit - value) <= unit, `${value}`);
        }
      },
    ),
    many,
  );
});
