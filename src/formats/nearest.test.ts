import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { nearestInversePower, nearestLog } from "./nearest.ts";

/** Units in the last place between two doubles of the same sign. */
function ulps(a: number, b: number): number {
  const bits = (x: number): bigint => new BigInt64Array(Float64Array.of(x).buffer)[0]!;
  return Math.abs(Number(bits(a) - bits(b)));
}

test("powers and logarithms are those of the platform, to its last bit or two", () => {
  const size = fc.double({ min: 1e-300, max: 1e300, noNaN: true });
  fc.assert(fc.property(size, (x) => ulps(nearestLog(x), Math.log(x)) <= 1));
  const base = fc.double({ min: 1.0001, max: 3e38, noNaN: true });
  const pair = fc.record({ base, headDim: fc.integer({ min: 1, max: 128 }), i: fc.nat(127) });
  fc.assert(
    fc.property(pair, ({ base: b, headDim, i }) => {
      // The platform's exponent is rounded: that costs as many units as the logarithm is large.
      const platform = b ** ((-2 * (i % headDim)) / (2 * headDim));
      assert.ok(ulps(nearestInversePower(b, i % headDim, headDim), platform) <= 100);
    }),
  );
});

test("where the true value is a double, it is that", () => {
  assert.equal(nearestInversePower(65_536, 2 * 8, 32), 2 ** -8);
  assert.equal(nearestInversePower(10_000, 0, 64), 1);
  assert.equal(nearestInversePower(4, 1, 2), 0.5);
  assert.equal(nearestInversePower(2 ** 127, 1, 1), 2 ** -127);
  assert.equal(nearestLog(1), 0);
});

test("values that others have computed with more digits, rounded correctly", () => {
  // Python's decimal with 60 digits, as the nearest double's shortest form.
  assert.equal(nearestInversePower(10_000, 2, 64), 0.7498942093324559);
  assert.equal(nearestInversePower(10_000, 62, 64), 0.0001333521432163324);
  assert.equal(nearestInversePower(500_000, 30, 128), 0.04616405026546052);
  assert.equal(nearestInversePower(1_000_000, 126, 128), 1.2409377607517195e-6);
  assert.equal(nearestLog(2), Math.LN2);
  assert.equal(nearestLog(10_000), 9.210340371976184);
  assert.equal(nearestLog(0.1), -2.3025850929940455);
  assert.equal(nearestLog(1 + 2 ** -52), 2.2204460492503128e-16);
  assert.equal(nearestLog(1 - 2 ** -53), -1.1102230246251565e-16);
  assert.equal(nearestLog(5e-324), -744.4400719213812);
});

test("what has no logarithm has none", () => {
  assert.equal(nearestLog(0), Number.NEGATIVE_INFINITY);
  assert.equal(nearestLog(Number.POSITIVE_INFINITY), Number.POSITIVE_INFINITY);
  assert.ok(Number.isNaN(nearestLog(-1)));
});
