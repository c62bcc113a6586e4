import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { printable, printableJson, printableLine } from "./printable.ts";

test("what a terminal would obey is removed, text stays", () => {
  for (const [text, shown] of [
    ["\u001b[31mred\u001b[0m", "[31mred[0m"],
    ["\u001b]52;c;c2VjcmV0\u0007", "]52;c;c2VjcmV0"],
    ["\u009b2J", "2J"],
    ["safe\rtrue", "safetrue"],
    ["a\u0008b\u007f", "ab"],
    ["file\u202egnp.exe", "filegnp.exe"],
    ["\u2066a\u2069", "a"],
    ["\tone\r\ntwo\n", "\tone\ntwo\n"],
    ["Kuh, 牛, بقرة, פרה, 🐄‍❄️, é", "Kuh, 牛, بقرة, פרה, 🐄‍❄️, é"],
  ]) {
    assert.equal(printable(text!), shown);
  }
});

test("a line stays a line", () => {
  assert.equal(
    printableLine("tiny\nerror: pay\there\u2028now\u0085!\u001b[A"),
    "tiny error: pay here now ![A",
  );
});

test("text that comes in pieces is as harmless as the whole", () => {
  const hostile = fc.string({
    unit: fc.constantFrom("\u001b", "[", "2", "J", "\u009b", "\n", "a", "🐄", "\u202e"),
  });
  fc.assert(
    fc.property(fc.array(hostile), (pieces) => {
      const whole = printable(pieces.join(""));
      assert.equal(pieces.map(printable).join(""), whole);
      assert.equal(printable(whole), whole);
      // oxlint-disable-next-line no-control-regex
      assert.doesNotMatch(whole, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
    }),
  );
});

test("JSON keeps its value", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const json = printableJson({ text });
      assert.deepEqual(JSON.parse(json), { text });
      assert.equal(printable(json), json);
    }),
  );
});
