import assert from "node:assert/strict";
import { test } from "node:test";
import { GGMLFileQuantizationType, GGMLQuantizationType, gguf as parseByLibrary } from "@huggingface/gguf";
import fc from "fast-check";
import {
  entry,
  gguf,
  string,
  stringValue,
  tensorInfo,
  tinyBytes,
  tinyModel,
  u32,
  u32Value,
  u64,
} from "./fixture.suite.ts";
import { arrayOf, BrokenGguf, HeaderGoesOn, parseGguf, scalarOf } from "./parse.ts";
import { fileTypeName, tensorTypeName } from "./tensor-types.ts";

test("an independent parser finds the same in the demo model", async () => {
  const theirs = await parseByLibrary(tinyModel, { allowLocalFile: true });
  const ours = parseGguf(tinyBytes, tinyBytes.length);
  const metadata = Object.fromEntries(
    [...ours.metadata].map(([key, value]) => [key, scalarOf(value) ?? arrayOf(value)]),
  );
  const { version, tensor_count: tensorCount, kv_count: keyCount, ...expected } = theirs.metadata;
  assert.deepEqual(metadata, expected);
  assert.equal(version, 3);
  assert.equal(ours.tensors.length, Number(tensorCount));
  assert.equal(ours.metadata.size, Number(keyCount));
  assert.equal(BigInt(ours.dataStart), theirs.tensorDataOffset);
  assert.deepEqual(
    ours.tensors.map(({ name, shape, type, offset }) => [name, shape.map(BigInt), type, BigInt(offset)]),
    theirs.tensorInfos.map(({ name, shape, dtype, offset }) => [name, shape, dtype, offset]),
  );
});

test("names of types are those of the library", () => {
  const numbers = Array.from({ length: 60 }, (_, i) => i);
  for (const type of numbers) {
    const name = tensorTypeName(type);
    if (name !== `type-${type}` && name !== "Q8_1" && name !== "Q8_K")
      assert.equal(name, GGMLQuantizationType[type]);
    const fileType = fileTypeName(type);
    if (fileType !== null) assert.equal(fileType, GGMLFileQuantizationType[type]);
  }
});

test("values of every type are read as they were written", () => {
  const values: [number, Buffer, unknown][] = [
    [0, Buffer.of(255), 255],
    [1, Buffer.of(255), -1],
    [2, Buffer.of(1, 2), 513],
    [3, Buffer.of(254, 255), -2],
    [4, u32(4_000_000_000), 4_000_000_000],
    [5, Buffer.of(255, 255, 255, 255), -1],
    [6, Buffer.of(0, 0, 128, 63), 1],
    [7, Buffer.of(1), true],
    [8, string("ü"), "ü"],
    [10, u64(2n ** 64n - 1n), 2n ** 64n - 1n],
    [11, u64(2n ** 64n - 1n), -1n],
    [12, Buffer.of(0, 0, 0, 0, 0, 0, 240, 63), 1],
  ];
  for (const [type, bytes, expected] of values) {
    assert.equal(scalarOf({ type, bytes }), expected);
    const list = { type: 9, bytes: Buffer.concat([u32(type), u64(2), bytes, bytes]) };
    const file = gguf(0, 2, entry("list", list), entry("one", { type, bytes }));
    const { metadata } = parseGguf(file, file.length);
    assert.deepEqual(arrayOf(metadata.get("list")), [expected, expected]);
    assert.deepEqual(scalarOf(metadata.get("one")), expected);
    assert.equal(scalarOf(metadata.get("list")), undefined);
    assert.deepEqual(arrayOf(metadata.get("one")), []);
  }
});

test("broken headers are refused, each for its reason", () => {
  const list = (type: number, count: number | bigint): Buffer =>
    entry("a", { type: 9, bytes: Buffer.concat([u32(type), u64(count)]) });
  const alignment = (value: number): Buffer => entry("general.alignment", u32Value(value));
  const table: [string, Buffer, RegExp][] = [
    ["big-endian", Buffer.from("GGUF\0\0\0\x03" + "\0".repeat(16), "latin1"), /big-endian/],
    ["newer version", Buffer.concat([Buffer.from("GGUF"), u32(4), u64(0), u64(0)]), /version 4/],
    ["huge key count", gguf(0, 2n ** 63n), /9223372036854776000 metadata entries/],
    ["huge tensor count", gguf(2n ** 64n - 1n, 0), /tensors/],
    ["more keys than there are", gguf(0, 2, entry("a", u32Value(1))), /truncated/],
    ["endless string", gguf(0, 1, string("a"), u32(8), u64(2n ** 62n)), /truncated/],
    ["endless key", gguf(0, 1, u64(2n ** 40n)), /name of/],
    ["endless list of numbers", gguf(0, 1, list(4, 3_999_999)), /truncated/],
    ["endless list of texts", gguf(0, 1, list(8, 3_999_999)), /truncated/],
    ["list beyond all bounds", gguf(0, 1, list(0, 2n ** 60n)), /values in a list/],
    ["list of lists", gguf(0, 1, list(9, 1)), /arrays in arrays/],
    ["unknown type", gguf(0, 1, string("a"), u32(13)), /unknown type 13/],
    ["repeated key", gguf(0, 2, entry("a", u32Value(1)), entry("a", u32Value(2))), /"a" twice/],
    ["key that is not UTF-8", gguf(0, 1, u64(1), Buffer.of(0xff), u32(4), u32(0)), /not UTF-8/],
    ["alignment of zero", gguf(0, 1, alignment(0)), /alignment 0/],
    ["alignment of three", gguf(0, 1, alignment(3)), /alignment 3/],
    ["alignment in words", gguf(0, 1, entry("general.alignment", stringValue("wide"))), /alignment wide/],
    ["five dimensions", gguf(1, 0, tensorInfo("t", [1, 1, 1, 1, 1], 0, 0)), /5 dimensions/],
    ["odd offset", gguf(1, 0, tensorInfo("t", [1], 0, 5)), /odd place/],
    ["repeated tensor", gguf(2, 0, tensorInfo("t", [1], 0, 0), tensorInfo("t", [1], 0, 32)), /"t" twice/],
  ];
  for (const [what, file, says] of table) {
    assert.throws(
      () => parseGguf(file, file.length),
      (error) => error instanceof BrokenGguf && says.test(error.message),
      what,
    );
  }
});

test("a header that is cut off is never taken for a whole one", () => {
  const headerBytes = parseGguf(tinyBytes, tinyBytes.length).dataStart - 31;
  fc.assert(
    fc.property(fc.nat(headerBytes), (length) => {
      const cut = tinyBytes.subarray(0, length);
      assert.throws(() => parseGguf(cut, length), BrokenGguf);
      if (length >= 8) assert.throws(() => parseGguf(cut, tinyBytes.length), HeaderGoesOn);
    }),
    { numRuns: 300 },
  );
});

test("flipped bytes give a header or a reason", () => {
  const flips = fc.array(fc.tuple(fc.nat(65_200), fc.nat(255)), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(flips, (changes) => {
      const copy = Buffer.from(tinyBytes.subarray(0, 70_000));
      for (const [at, value] of changes) copy[at] = value;
      try {
        const { metadata } = parseGguf(copy, tinyBytes.length);
        for (const value of metadata.values()) void (scalarOf(value) ?? arrayOf(value));
      } catch (error) {
        assert.ok(error instanceof BrokenGguf || error instanceof HeaderGoesOn, String(error));
      }
    }),
    { numRuns: 500 },
  );
});
