import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeWeights, encodeWeights, roundedTo, storedBytes } from "./weight-types.ts";

const finite = fc.float({ noNaN: true, noDefaultInfinity: true, min: -60_000, max: 60_000 });

test("F32, F16 and BF16 come back as the nearest number of their kind", () => {
  fc.assert(
    fc.property(fc.array(finite, { minLength: 1 }), (numbers) => {
      const values = Float32Array.from(numbers);
      assert.deepEqual(roundedTo("F32", values), values);
      assert.deepEqual(roundedTo("F16", values), values.map(Math.f16round));
      const bfloat = roundedTo("BF16", values);
      values.forEach((value, i) => assert.ok(Math.abs(bfloat[i]! - value) <= Math.abs(value) / 256 + 1e-38));
      // Nothing is left to round.
      assert.deepEqual(roundedTo("BF16", bfloat), bfloat);
    }),
  );
});

test("BF16 rounds ties to even", () => {
  assert.deepEqual(
    [...roundedTo("BF16", Float32Array.of(1 + 1 / 256, 1 + 3 / 256, -1 - 1 / 256))],
    [1, 1 + 4 / 256, -1],
  );
});

test("Q8_0 holds blocks of an F16 step and 32 signed bytes, halves rounded away from zero", () => {
  const values = new Float32Array(32);
  values.set([127, -127, 0.5, -0.5, 1.4, -2.5]);
  const bytes = encodeWeights("Q8_0", values);
  assert.equal(bytes.length, storedBytes("Q8_0", 32));
  // 1 in half precision, little-endian.
  assert.deepEqual([...bytes.subarray(0, 2)], [0x00, 0x3c]);
  assert.deepEqual([...new Int8Array(bytes.buffer, 2, 6)], [127, -127, 1, -1, 1, -3]);
  assert.deepEqual([...decodeWeights("Q8_0", bytes).subarray(0, 6)], [127, -127, 1, -1, 1, -3]);
  assert.deepEqual([...roundedTo("Q8_0", new Float32Array(32))], Array(32).fill(0));
});

test("Q8_0 errs by half a step at most", () => {
  fc.assert(
    fc.property(fc.array(finite, { minLength: 32, maxLength: 32 }), (numbers) => {
      const values = Float32Array.from(numbers);
      const largest = Math.max(...values.map(Math.abs));
      // The step itself is rounded to F16, which 127 steps feel.
      const bound = largest / 127 / 2 + largest / 2048 + 127 * 2 ** -24;
      roundedTo("Q8_0", values).forEach((value, i) => assert.ok(Math.abs(value - values[i]!) <= bound));
    }),
  );
});

test("Q4_0 holds blocks of an F16 step and 32 half bytes; the largest weight becomes −8", () => {
  const values = new Float32Array(32);
  values.set([4, -3.5, 1, 0.2, -0.25, 0.3]);
  values[16] = -4;
  const bytes = encodeWeights("Q4_0", values);
  assert.equal(bytes.length, storedBytes("Q4_0", 32));
  // −0.5 in half precision, little-endian.
  assert.deepEqual([...bytes.subarray(0, 2)], [0x00, 0xb8]);
  assert.deepEqual([...decodeWeights("Q4_0", bytes).subarray(0, 6)], [4, -3.5, 1, 0, -0.5, 0.5]);
  assert.equal(decodeWeights("Q4_0", bytes)[16], -3.5);
  assert.deepEqual([...roundedTo("Q4_0", new Float32Array(32))], Array(32).fill(0));
});
