import assert from "node:assert/strict";
import { after, test } from "node:test";
import { type CallForm, toolCallGrammar } from "../../grammar/tool-calls.ts";
import { thoughtFormats, toolFormats } from "../../protocol/offer.ts";
import { readAnswer } from "../../tools/answer-reader.ts";
import { SkeinError } from "../../util/errors.ts";
import { idsIn, model, textOf, walk } from "./random-walk.suite.ts";
import { isValid } from "./schema-cases.suite.ts";
import { TokenMasks } from "./token-masks.ts";

const masks = new TokenMasks(model);
after(() => masks.close());

const parameters = {
  find: {
    type: "object",
    properties: { where: { enum: ["here", "there"] }, what: { type: "boolean" } },
    required: ["what"],
  },
  stop: { type: "object", properties: {}, additionalProperties: false },
} as const;
const form: CallForm = {
  functions: [
    { name: "find", parameters: parameters.find, isStrict: true },
    { name: "stop", parameters: parameters.stop, isStrict: false },
  ],
  isRequired: true,
  isParallel: true,
};
const names = new Set(["find", "stop"]);

/** Numbers of a fixed sequence. */
function dice(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 8;
}

const bytesOf = (text: string): number[] => Array.from(new TextEncoder().encode(text));

test("whatever is drawn under the grammar of a format is read as calls that fit their schemas", async () => {
  let several = 0;
  for (const format of toolFormats) {
    for (const isParallel of [true, false]) {
      const grammar = toolCallGrammar({ ...form, isParallel }, format, null)!;
      for (let seed = 1; seed <= 12; seed++) {
        const mask = await masks.open(grammar, []);
        const tokenIds = walk(mask, dice(seed));
        mask.close();
        if (tokenIds === null) continue;
        const text = textOf(tokenIds);
        const read = readAnswer({ calls: { format, names, callsMax: 99 }, thoughts: null }, text, "stop");
        assert.equal(read.content, "", text);
        assert.ok(isParallel ? read.calls.length > 0 : read.calls.length === 1, text);
        if (read.calls.length > 1) several += 1;
        for (const { name, arguments: given } of read.calls) {
          assert.ok(isValid(parameters[name as keyof typeof parameters], given), text);
        }
      }
    }
  }
  assert.ok(several > 10, `only ${several} answers had several calls`);
});

test("where calls need not come, words are free, and from its mark on a call is one", async () => {
  for (const format of toolFormats) {
    const grammar = toolCallGrammar({ ...form, isRequired: false }, format, null);
    if (format === "llama3" || format === "generic") {
      assert.equal(grammar, null);
      continue;
    }
    const words = bytesOf('Well, "I" [think] <so>: {é} ');
    const free = await masks.open(grammar!, words);
    assert.ok(free.allowed() !== null);
    free.close();
    const mark = format === "hermes" ? "<tool_call>" : "[TOOL_CALLS]";
    const mask = await masks.open(grammar!, [...words, ...bytesOf(mark)]);
    // Up to the call's end.
    const tokenIds: number[] = [];
    const next = dice(7);
    const reading = { calls: { format, names, callsMax: 9 }, thoughts: null };
    const textSoFar = (): string => mark + textOf(tokenIds);
    for (let i = 0; i < 200; i++) {
      const allowed = mask.allowed();
      const ids = allowed === null ? [] : idsIn(allowed);
      // It is whole, or words are free again.
      if (allowed === null || ids.length > 100) break;
      const id = ids[next() % ids.length]!;
      tokenIds.push(id);
      mask.advance(id);
    }
    mask.close();
    const read = readAnswer(reading, textSoFar(), "stop");
    assert.deepEqual([read.content, read.calls.length > 0], ["", true], textSoFar());
  }
});

test("thoughts may come before calls, where the model thinks", async () => {
  for (const thoughts of thoughtFormats) {
    const grammar = toolCallGrammar(form, "hermes", thoughts)!;
    const call = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>';
    const before = thoughts === "tags" ? "<think>" : "";
    const whole = `${before}Hm: a <b> </b </thin é</think>\n\n${call}`;
    const mask = await masks.open(grammar, bytesOf(whole));
    assert.ok(mask.allowed() !== null);
    mask.close();
    // What the model opens itself need not come.
    if (thoughts === "tags") (await masks.open(grammar, bytesOf(call))).close();
    await assert.rejects(masks.open(grammar, bytesOf(`${before}Hm</think>no`)), SkeinError);
  }
});

test("a strict schema that no grammar can say is refused by the function's name, others allow any object", async () => {
  const odd = { name: "odd", parameters: { type: "object", minProperties: 3 } };
  assert.throws(
    () => toolCallGrammar({ ...form, functions: [{ ...odd, isStrict: true }] }, "generic", null),
    /'odd'.*minProperties/,
  );
  const grammar = toolCallGrammar({ ...form, functions: [{ ...odd, isStrict: false }] }, "generic", null)!;
  // Nor does it leave anything half said behind.
  const recursive = { type: "object", properties: { a: { $ref: "#" }, b: { not: {} } } };
  const functions = [{ name: "odd", parameters: recursive, isStrict: false }];
  for (const each of [grammar, toolCallGrammar({ ...form, functions }, "generic", null)!]) {
    const mask = await masks.open(each, bytesOf('{"name": "odd", "arguments": {"a": [1]}}'));
    mask.close();
  }
});
