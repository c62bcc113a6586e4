import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { utf8 } from "../util/bytes.ts";
import { BrokenJson, parseJson } from "./json.ts";

const limits = { depthMax: 20, valuesMax: 10_000 };
const parse = (text: string): unknown => parseJson(utf8(text), limits);

test("every JSON text is read as JSON.parse reads it", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8 }), fc.constantFrom(undefined, 1, "\t"), (value, space) => {
      const text = JSON.stringify(value, null, space);
      assert.deepEqual(parse(text), JSON.parse(text));
    }),
  );
  assert.deepEqual(parse(String.raw` {"a\u00e9\n\"\\" : [ -1.5e+3 , 0 ] , "" : {} } `), {
    'aé\n"\\': [-1500, 0],
    "": {},
  });
});

test("what JSON.parse refuses is refused, and nothing else is thrown", () => {
  const text = fc.string({ unit: fc.constantFrom(...'{}[]",:\\-01.eE tfnul'.split("")), maxLength: 12 });
  fc.assert(
    fc.property(text, (candidate) => {
      let expected: unknown;
      try {
        expected = JSON.parse(candidate);
      } catch {
        assert.throws(() => parse(candidate), BrokenJson);
        return;
      }
      try {
        assert.deepEqual(parse(candidate), expected);
      } catch (error) {
        assert.ok(error instanceof BrokenJson && /twice/.test(error.message), String(error));
      }
    }),
    { numRuns: 3_000 },
  );
});

test("repeated keys, bad UTF-8, and too many levels or values are refused", () => {
  const table: [Uint8Array, RegExp][] = [
    [utf8('{"a":1,"b":2,"a":1}'), /key "a" twice/],
    [utf8('{"__proto__":1,"__proto__":2}'), /key "__proto__" twice/],
    [Uint8Array.of(0x22, 0xff, 0x22), /not UTF-8/],
    [utf8("﻿{}"), /broken JSON at character 0/],
    [utf8("[".repeat(22)), /more than 20 levels/],
    [utf8(`[${"[],".repeat(10_000)}1]`), /more than 10000 values/],
    [utf8(""), /character 0/],
    [utf8('{"a"'), /character 4/],
    [utf8('"\u0001"'), /broken JSON/],
  ];
  for (const [bytes, says] of table) {
    assert.throws(
      () => parseJson(bytes, limits),
      (error) => error instanceof BrokenJson && says.test(error.message),
      String(says),
    );
  }
});

test("the key __proto__ is a key like any other", () => {
  const value = parse('{"__proto__":{"a":1}}') as object;
  assert.deepEqual(Object.entries(value), [["__proto__", { a: 1 }]]);
  assert.equal(Object.getPrototypeOf(value), Object.prototype);
});
