import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type ThoughtFormat, thoughtFormats, type ToolFormat, toolFormats } from "../protocol/offer.ts";
import { AnswerReader, type Delta, readAnswer, type Reading } from "./answer-reader.ts";

const names = new Set(["get_weather", "f"]);
const calls = (format: ToolFormat, callsMax = 16): Reading => ({
  calls: { format, names, callsMax },
  thoughts: null,
});
const weather = { name: "get_weather", arguments: '{"city": "Zürich \\"x\\" }]"}' };
const f = { name: "f", arguments: "{}" };

const written: Record<ToolFormat, string> = {
  hermes: `<tool_call>\n{"name": "get_weather", "arguments": ${weather.arguments}}\n</tool_call>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>`,
  llama3: `{"name": "get_weather", "parameters": ${weather.arguments}}; {"name": "f", "parameters": {}}`,
  mistral: `[TOOL_CALLS][{"name": "get_weather", "arguments": ${weather.arguments}, "id": "VvvODy9mT"}, {"name": "f", "arguments": {}}]`,
  mistral_args: `[TOOL_CALLS]get_weather[ARGS]${weather.arguments}[TOOL_CALLS]f[CALL_ID]abc[ARGS]{}`,
  generic: `{"name": "get_weather", "arguments": ${weather.arguments}}\n{"name": "f"}`,
};

/** Deltas of the same kind put together, as whoever reads them does. */
function merged(deltas: readonly Delta[]): Delta[] {
  const all: Delta[] = [];
  for (const delta of deltas) {
    const last = all.at(-1);
    const isMore =
      last !== undefined &&
      last.type === delta.type &&
      last.type !== "call" &&
      (last.type !== "arguments" || last.index === (delta as typeof last).index);
    if (isMore) all[all.length - 1] = { ...last, text: last.text + (delta as typeof last).text };
    else all.push(delta);
  }
  return all;
}

/** What is told of a text that comes in pieces, and after how many characters each step was. */
function told(reading: Reading, pieces: readonly string[], end: "stop" | "length" = "stop") {
  const reader = new AnswerReader(reading);
  const deltas: Delta[] = [];
  for (const piece of pieces) {
    const steps = reader.push(piece);
    assert.equal(
      steps.reduce((sum, { chars }) => sum + chars, 0),
      piece.length,
    );
    for (const step of steps) deltas.push(...step.deltas);
  }
  return merged([...deltas, ...reader.end(end)]);
}

test("the calls of every format are read, also in the spellings of its family", () => {
  for (const format of toolFormats) {
    assert.deepEqual(
      readAnswer(calls(format), written[format], "stop"),
      { content: "", reasoning: "", calls: [weather, f] },
      format,
    );
    // More than one was not asked for.
    assert.deepEqual(readAnswer(calls(format, 1), written[format], "stop").calls, [weather], format);
  }
  const others: [ToolFormat, string][] = [
    ["hermes", '<tool_call>{"name":"f","arguments":{}}</tool_call>'],
    ["hermes", '\n<tool_call> {"type": "function", "name": "f", "parameters": "{}"} </tool_call> \n'],
    ["hermes", '<tool_call>{"name":"f","arguments":null}'],
    ["hermes", '<tool_call>{"name":"f","arguments":{}</tool_call>'],
    ["llama3", '<|python_tag|>{"type": "function", "name": "f", "parameters": {}}'],
    ["generic", ' {"name": "f", "parameters": {}} '],
    ["mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {}}]'],
    ["mistral", "[TOOL_CALLS]f[ARGS]{}"],
    ["mistral_args", "[TOOL_CALLS]f{}"],
  ];
  for (const [format, text] of others) {
    assert.deepEqual(
      readAnswer(calls(format), text, "stop"),
      { content: "", reasoning: "", calls: [f] },
      text,
    );
  }
});

test("words beside calls are text, and so is what only looks like a call", () => {
  const mixed = readAnswer(calls("hermes"), `I look it up.\n\n${written.hermes}\nWait.`, "stop");
  assert.deepEqual([mixed.content, mixed.calls.length], ["I look it up.\nWait.", 2]);
  const texts: [ToolFormat, string][] = [
    ["hermes", "a < b, <tool_call is no mark"],
    ["hermes", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'],
    ["hermes", "<tool_call>weather please</tool_call>"],
    ["hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'],
    ["hermes", "the end is <tool_c"],
    ["generic", '{"answer": 42}'],
    ["llama3", '[{"name": "f", "parameters": {}}]'],
    ["generic", 'Sure: {"name": "f", "arguments": {}}'],
    ["mistral", "[TOOL_CALLS] none"],
    ["mistral", "[1, 2] [TOOL"],
  ];
  for (const [format, text] of texts) {
    assert.deepEqual(
      readAnswer(calls(format), text, "stop"),
      { content: text, reasoning: "", calls: [] },
      text,
    );
  }
});

test("thoughts come before the answer, whoever opened them", () => {
  const thoughts = (format: ThoughtFormat): Reading => ({ calls: null, thoughts: format });
  const cases: [Reading, string, string, string][] = [
    [thoughts("tags"), "<think>\nHm. 1 < 2\n</think>\n\nYes.\n", "Hm. 1 < 2", "Yes.\n"],
    [thoughts("opened"), "Hm.\n</think>\n\nYes.", "Hm.", "Yes."],
    [thoughts("opened"), "<think>Hm.</think>Yes.", "Hm.", "Yes."],
    [thoughts("tags"), "<thinking> is good", "", "<thinking> is good"],
    [thoughts("tags"), " Yes. <think>no</think>", "", " Yes. <think>no</think>"],
    [thoughts("tags"), "<think></think>", "", ""],
    [thoughts("opened"), "Hm. </thi", "Hm.</thi", ""],
  ];
  for (const [reading, text, reasoning, content] of cases) {
    assert.deepEqual(readAnswer(reading, text, "stop"), { content, reasoning, calls: [] }, text);
  }
  const both: Reading = { calls: calls("generic").calls, thoughts: "tags" };
  assert.deepEqual(readAnswer(both, `<think>f?</think>\n\n${written.generic}`, "stop"), {
    content: "",
    reasoning: "f?",
    calls: [weather, f],
  });
});

test("an answer that is cut ends its call where it is, and shows no part of a mark", () => {
  for (const format of toolFormats) {
    const text = written[format];
    for (let end = 0; end <= text.length; end++) {
      const { calls: made, content } = readAnswer(calls(format), text.slice(0, end), "length");
      assert.ok(!/<tool_call>|\[TOOL_CALLS\]|\[ARGS\]/.test(content), `${end} ${content}`);
      if (made.length > 0) {
        assert.equal(content, "");
        assert.ok(weather.arguments.startsWith(made[0]!.arguments));
      }
    }
  }
});

test("property: however the text is cut, the same is told, and every step can be told apart", () => {
  const fragment = fc.oneof(
    fc.constantFrom(...Object.values(written), "<think>", "</think>", "\n\n", " ", "Hello there. "),
    fc.constantFrom(
      "<tool_call>",
      "</tool_call>",
      "[TOOL_CALLS]",
      "[ARGS]",
      "<|python_tag|>",
      "<",
      "[",
      "🪿",
    ),
    fc.constantFrom('{"name": "f"', '"arguments": {', "}", "]", '"', "null", ", ", "f", "\\"),
    fc.string({ maxLength: 5 }),
  );
  const reading = fc.record({
    calls: fc.option(
      fc.record({
        format: fc.constantFrom(...toolFormats),
        names: fc.constant(names),
        callsMax: fc.constantFrom(1, 16),
      }),
    ),
    thoughts: fc.option(fc.constantFrom(...thoughtFormats)),
  });
  const given = fc.record({
    reading,
    fragments: fc.array(fragment, { maxLength: 8 }),
    cuts: fc.array(fc.nat(200), { maxLength: 12 }),
    end: fc.constantFrom("stop" as const, "length" as const),
  });
  fc.assert(
    fc.property(given, ({ reading: how, fragments, cuts, end }) => {
      const text = fragments.join("");
      const whole = told(how, [text], end);
      const places = [
        ...new Set([0, ...cuts.map((cut) => Math.min(cut, text.length)), text.length]),
      ].toSorted((a, b) => a - b);
      const pieces = places.slice(1).map((place, i) => text.slice(places[i], place));
      assert.deepEqual(told(how, pieces, end), whole);
      assert.deepEqual(
        told(
          how,
          Array.from({ length: text.length }, (_, i) => text[i]!),
          end,
        ),
        whole,
      );
      // Calls are numbered, and each is told of before its arguments.
      let index = -1;
      for (const delta of whole) {
        if (delta.type === "call") assert.equal(delta.index, (index += 1));
        if (delta.type === "arguments") assert.equal(delta.index, index);
      }
      // Without calls and thoughts nothing is lost.
      if (how.calls === null && how.thoughts === null) {
        assert.equal(whole.map((delta) => (delta.type === "content" ? delta.text : "")).join(""), text);
      }
      // Whoever has the first steps gets the rest from a reader that read as many characters.
      const reader = new AnswerReader(how);
      const steps = reader.push(text);
      const again = new AnswerReader(how);
      let from = 0;
      for (const { chars, deltas } of steps) {
        const same = again.push(text.slice(from, from + chars)).flatMap((step) => step.deltas);
        assert.deepEqual(merged(same), merged(deltas));
        from += chars;
      }
      assert.deepEqual(again.end(end), reader.end(end));
    }),
    { numRuns: 1_500 },
  );
});
