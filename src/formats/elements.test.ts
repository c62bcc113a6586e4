import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesOfRow, decodeElements, type ElementType, findNonFinite } from "./elements.ts";

function decoded(type: ElementType, bytes: Uint8Array, count: number): Float32Array {
  const out = new Float32Array(count);
  decodeElements(type, bytes, out);
  return out;
}

test("every half-precision number is the one of the platform", () => {
  const bits = Uint16Array.from({ length: 65_536 }, (_, i) => i);
  const bytes = new Uint8Array(bits.buffer);
  const view = new DataView(bits.buffer) as DataView & { getFloat16(at: number, isLittle: boolean): number };
  for (const [i, value] of decoded("F16", bytes, bits.length).entries()) {
    assert.ok(Object.is(value, Math.fround(view.getFloat16(2 * i, true))), `bits ${i}`);
  }
});

test("BF16 is the upper half of a 32-bit float, F32 is it all, wherever it stands", () => {
  const values = Float32Array.of(1, -0, 3.140625, 2 ** -130, -(2 ** 127));
  const all = new Uint8Array([0, ...new Uint8Array(values.buffer)]).subarray(1);
  assert.deepEqual(decoded("F32", all, values.length), values);
  const upper = Uint8Array.from({ length: 10 }, (_, i) => all[4 * (i >> 1) + 2 + (i % 2)]!);
  assert.deepEqual(decoded("BF16", upper, values.length), values);
});

test("a block of Q8_0 is a scale in half precision times signed bytes, rounded once", () => {
  const block = new Uint8Array(34);
  new DataView(block.buffer).setUint16(0, 0x2e66, true); // 0.0999755859375
  for (let i = 0; i < 32; i++) block[2 + i] = i * 8;
  const expected = Array.from({ length: 32 }, (_, i) =>
    Math.fround((((i * 8) << 24) >> 24) * 0.0999755859375),
  );
  assert.deepEqual([...decoded("Q8_0", block, 32)], expected);
});

test("rows have the bytes of their blocks", () => {
  assert.deepEqual(
    (["F32", "F16", "BF16", "Q8_0"] as const).map((type) => bytesOfRow(type, 64)),
    [256, 128, 128, 68],
  );
});

test("what is not finite is found", () => {
  assert.equal(findNonFinite(Float32Array.of(0, 3.4e38, -1)), -1);
  for (const bad of [Number.NaN, Infinity, -Infinity]) {
    assert.equal(findNonFinite(Float32Array.of(0, bad, bad)), 1);
  }
});
