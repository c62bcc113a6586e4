import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { bytesOfRow, decodeElements, findNonFinite } from "./elements.ts";
import { halfFloats } from "./half-floats.ts";
import { packedBlocks, type PackedType } from "./packed-elements.ts";

const blocks = 3;

/** Blocks of a pattern, with scales of 0.1, 0.2, 0.3 and offsets of −0.75, −1.5, −2.25. */
function pattern(type: PackedType, scalesAt: readonly number[]): Uint8Array {
  const { bytes: size } = packedBlocks[type];
  const bytes = Uint8Array.from({ length: blocks * size }, (_, i) => i * 73 + 41 + (i >> 3) * 29);
  for (let block = 0; block < blocks; block++) {
    for (const [i, at] of scalesAt.entries())
      setHalf(bytes, block * size + at, [0.1, -0.75][i]! * (block + 1));
  }
  return bytes;
}

function setHalf(bytes: Uint8Array, at: number, value: number): void {
  const distances = halfFloats().map((half) => Math.abs(half - value));
  const bits = distances.indexOf(distances.reduce((a, b) => (b < a ? b : a), Infinity));
  new DataView(bytes.buffer).setUint16(at, bits, true);
}

/** What gguf 0.19.0, llama.cpp's package for Python, makes of the same blocks: elements 0, 1, 17 and 31, and the beginning of a hash of all. */
const expected: readonly (readonly [PackedType, readonly number[], string, readonly number[]])[] = [
  [
    "Q4_0",
    [0],
    "e4c0c2e15715b457ed474d703fa3142c",
    [0.2999267578125, -0.39990234375, -0.7998046875, -0.4998779296875],
  ],
  [
    "Q4_1",
    [0, 2],
    "42db3ac03d8e0c4c3a2680010de9106b",
    [0.5496826171875, -0.150146484375, 0.1497802734375, 0.44970703125],
  ],
  [
    "Q5_0",
    [0],
    "9908669ec77a6fcb33806b52d9da7487",
    [1.4996337890625, 0.7998046875, -1.399658203125, 0.599853515625],
  ],
  [
    "Q5_1",
    [0, 2],
    "97ebbb0b3f6cffc4801c908332a73911",
    [2.249267578125, -0.0501708984375, 2.1492919921875, 0.7496337890625],
  ],
  [
    "Q4_K",
    [0, 2],
    "23345105ebe6b812b201718cb3a1605c",
    [14.3990478515625, 26.09619140625, 18.298095703125, 11.7996826171875],
  ],
  [
    "Q5_K",
    [0, 2],
    "4dff31d6f63a505366afd3e2ee9be750",
    [40.3927001953125, 10.5, 23.496826171875, 37.7933349609375],
  ],
  [
    "Q6_K",
    [208],
    "d897bfb66c3cf3bac2e20a52c3e642e8",
    [66.4837646484375, -18.995361328125, 43.9892578125, -50.587646484375],
  ],
];

test("blocks of fewer than eight bits are the numbers that llama.cpp's own reader finds", () => {
  for (const [type, scalesAt, hash, some] of expected) {
    const values = new Float32Array(blocks * packedBlocks[type].elements);
    decodeElements(type, pattern(type, scalesAt), values);
    assert.deepEqual(
      [0, 1, 17, 31].map((i) => values[i]),
      some,
      type,
    );
    const bytes = new Uint8Array(values.length * 4);
    const view = new DataView(bytes.buffer);
    for (const [i, value] of values.entries()) view.setFloat32(4 * i, value, true);
    assert.equal(createHash("sha256").update(bytes).digest("hex").slice(0, 32), hash, type);
  }
});

test("a scale that is no number shows in the elements", () => {
  for (const [type, [scaleAt]] of expected) {
    const bytes = pattern(type, []);
    for (let block = 0; block < blocks; block++) {
      const at = block * packedBlocks[type].bytes;
      bytes[at + scaleAt!] = 0;
      bytes[at + scaleAt! + 1] = block === 1 ? 0x7c : 0;
    }
    const values = new Float32Array(blocks * packedBlocks[type].elements);
    decodeElements(type, bytes, values);
    assert.notEqual(findNonFinite(values), -1, type);
  }
});

test("rows have the bytes of their blocks", () => {
  assert.deepEqual(
    expected.map(([type]) => bytesOfRow(type, 512)),
    [288, 320, 352, 384, 288, 352, 420],
  );
});
