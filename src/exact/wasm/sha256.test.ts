import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { KernelMemory } from "./kernels.ts";
import { kernelTables } from "./tables.ts";

const memory = new KernelMemory({ shared: false, tables: kernelTables });
const room = memory.allocate(64 * 512);
const digests = memory.allocate(64 * 32 + 128);
const scratch = memory.allocate(3_712);

/** Digests of `tag` and `length` of the bytes each, made at `into`. */
function hashEach(tag: number, bytes: Uint8Array, length: number, count: number, into = digests): string[] {
  memory.bytes(room, bytes.length).set(bytes);
  memory.kernels.hashEach(tag, room, length, count, into, memory.hashWords, scratch);
  return Array.from({ length: count }, (_, i) =>
    Buffer.from(memory.bytes(into + 32 * i, 32).slice()).toString("hex"),
  );
}

function expected(tag: number, bytes: Uint8Array, length: number, count: number): string[] {
  return Array.from({ length: count }, (_, i) => {
    const message = bytes.subarray(i * length, (i + 1) * length);
    return createHash("sha256").update(Uint8Array.of(tag)).update(message).digest("hex");
  });
}

test("the examples of the standard", () => {
  const examples = [
    ["abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
    [
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ],
    [
      "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
    ],
  ] as const;
  for (const [text, digest] of examples) {
    const bytes = Buffer.from(text);
    assert.deepEqual(hashEach(bytes[0]!, bytes.subarray(1), bytes.length - 1, 1), [digest]);
  }
});

test("any number of messages of any length, all of them and nothing else", () => {
  const lengths = fc.oneof(fc.constantFrom(0, 1, 54, 55, 62, 63, 64, 118, 119, 511, 512), fc.nat(512));
  fc.assert(
    fc.property(
      lengths,
      fc.nat(11),
      fc.nat(255),
      fc.infiniteStream(fc.nat(255)),
      (length, count, tag, stream) => {
        const bytes = Uint8Array.from({ length: length * count }, () => stream.next().value as number);
        assert.deepEqual(hashEach(tag, bytes, length, count), expected(tag, bytes, length, count));
      },
    ),
    { numRuns: 200 },
  );
});

test("digests may take the place of longer messages", () => {
  const bytes = Uint8Array.from({ length: 64 * 21 }, (_, i) => (i * 97) >> 3);
  assert.deepEqual(hashEach(0x11, bytes, 64, 21, room), expected(0x11, bytes, 64, 21));
});
