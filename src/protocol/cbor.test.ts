import assert from "node:assert/strict";
import { mock, test } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { fromHex } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { CanonicalTokenizer } from "./cbor-tokenizer.ts";
import { decodeCbor, encodeCbor } from "./cbor.ts";
import { countSchema, promptValuesMax } from "./messages.ts";

const decodeAny = (bytes: Uint8Array): unknown => decodeCbor(z.unknown(), bytes, "test");
const isViolation = (error: unknown): boolean =>
  error instanceof SkeinError && error.code === "protocol_violation";

test("what is accepted has one encoding: any bytes, and any damage to good ones", () => {
  const value = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.string({ unit: "binary" }).filter((text) => text.isWellFormed()),
      fc.uint8Array(),
      fc.constantFrom(true, false, null, 2n ** 60n),
      fc.array(tie("value"), { maxLength: 4 }),
      fc.dictionary(fc.string({ maxLength: 4 }), tie("value"), { maxKeys: 4 }),
    ),
  })).value;
  fc.assert(
    fc.property(value, fc.nat(), fc.nat(255), (given, at, flip) => {
      const bytes = encodeCbor(given);
      assert.deepEqual(encodeCbor(decodeAny(bytes)), bytes);
      bytes[at % bytes.length]! ^= flip;
      try {
        assert.deepEqual(encodeCbor(decodeAny(bytes)), bytes);
      } catch (error) {
        assert.ok(isViolation(error), String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

test("other forms of the same value are refused", () => {
  const refused = {
    "keys out of order": "a2616201616102",
    "a key twice": "a2616101616102",
    "a key that is no text": "a10102",
    "an integer in more bytes than needed": "1807",
    "a length in more bytes than needed": "7801 61",
    "a whole number as a float": "f94700",
    "a large whole number as a float of the same length": "fbc330000000000001",
    "a float in more bytes than needed": "fa3fc00000",
    "indefinite length": "9f01ff",
    undefined: "f7",
    "not a number": "f97e00",
    infinity: "f97c00",
    "a tag": "c101",
    "bytes behind the value": "0101",
    nothing: "",
    "text that is not UTF-8": "61ff",
    "text with half a surrogate pair": "63eda080",
  };
  for (const [what, hex] of Object.entries(refused)) {
    assert.throws(() => decodeAny(fromHex(hex.replaceAll(" ", ""))), isViolation, what);
  }
});

test("a byte order mark is part of the text", () => {
  for (const text of ["\u{feff}hi", "\u{feff}", `\u{feff}${"x".repeat(100)}`]) {
    assert.equal(decodeAny(encodeCbor(text)), text);
  }
});

const megabytes = 4 * 1024 * 1024;

/** A list of `length` items, the bytes of `items` over and over, in 4 MiB. */
function listOf(length: number, ...items: number[]): Uint8Array {
  const bytes = new Uint8Array(megabytes);
  for (let i = 5; i < bytes.length; i++) bytes[i] = items[(i - 5) % items.length]!;
  bytes[0] = 0x9a;
  new DataView(bytes.buffer).setUint32(1, length);
  return bytes;
}

/** How many values a decoder builds before it refuses them: of every list it makes, the items so far. */
function valuesBuilt(bytes: Uint8Array, limits?: { valuesMax: number }): number {
  const next = mock.method(CanonicalTokenizer.prototype, "next");
  try {
    assert.throws(() => decodeCbor(z.unknown(), bytes, "test", limits), isViolation);
    return next.mock.callCount();
  } finally {
    next.mock.restore();
  }
}

test("bombs of depth and fields are refused early", () => {
  assert.ok(valuesBuilt(new Uint8Array(megabytes).fill(0x81)) < 20);
  const fields = Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, 0]));
  assert.equal(valuesBuilt(encodeCbor(fields)), 1);
});

test("a list with too many values is refused by its length, before one of them is built", () => {
  const prompt = { valuesMax: promptValuesMax };
  assert.equal(valuesBuilt(listOf(megabytes - 5, 0x80)), 1);
  assert.equal(valuesBuilt(listOf(megabytes - 5, 0x01), prompt), 1);
  assert.equal(valuesBuilt(listOf(9_000, 0x01)), 1);
  assert.equal(valuesBuilt(fromHex("9a0000100001"), prompt), 1, "more items than bytes");
  // Lists of lists add up.
  assert.ok(valuesBuilt(listOf(200, 0x98, 200, ...Array<number>(200).fill(1))) < 9_000);
  // What is dear to build is bounded where a million token ids are not.
  assert.ok(valuesBuilt(listOf(1_000_000, 0xf9, 0x3e, 0x00), prompt) < 1_100);
  assert.ok(valuesBuilt(listOf(1_000_000, 0x80), prompt) < 100_000);
});

test("a list of wrong token ids is refused with one short sentence", () => {
  const ids = Array<number>(400_000).fill(2 ** 40);
  const refused = { kind: "tokens", tokenIds: ids };
  assert.throws(
    () =>
      decodeCbor(countSchema, encodeCbor({ modelId: "m", prompt: refused }), "count frame", {
        valuesMax: promptValuesMax,
      }),
    (error) => isViolation(error) && /malformed at prompt.tokenIds/.test((error as SkeinError).message),
  );
});
