/** Calls of functions in streams that a client comes back to, in the same process and in another one. */
import assert from "node:assert/strict";
import type OpenAI from "openai";
import { toolFormats, type ToolFormat } from "../../protocol/offer.ts";
import { question } from "../fixture.suite.ts";
import { chunksOf, idOf, inWorld, lastId, read, rest, resume } from "./lives.suite.ts";

const city = '{"city": "Zürich 🪿", "n": [1, {"a": "}"}]}';
const written: Record<ToolFormat, string> = {
  hermes: `Hm.\n<tool_call>\n{"name": "f", "arguments": ${city}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>`,
  llama3: `{"name": "f", "parameters": ${city}}; {"name": "g", "parameters": {}}`,
  mistral: `[TOOL_CALLS][{"name": "f", "arguments": ${city}}, {"name": "g", "arguments": {}}]`,
  mistral_args: `[TOOL_CALLS]f[ARGS]${city}[TOOL_CALLS]g[ARGS]{}`,
  generic: `{"name": "f", "arguments": ${city}}\n{"name": "g", "arguments": {}}`,
};
const body = {
  ...question,
  stream: true,
  tools: ["f", "g"].map((name) => ({ type: "function", function: { name, parameters: { type: "object" } } })),
};

/** What a client makes of the events. */
function madeOf(events: readonly string[]) {
  let [content, reasoning, finish] = ["", "", ""];
  const calls: { id: string; name: string; arguments: string }[] = [];
  for (const { choices } of chunksOf(events) as OpenAI.ChatCompletionChunk[]) {
    const { delta, finish_reason: reason } = choices[0]!;
    content += delta.content ?? "";
    reasoning += (delta as { reasoning_content?: string }).reasoning_content ?? "";
    finish = reason ?? finish;
    for (const { index, id, function: part } of delta.tool_calls ?? []) {
      if (id !== undefined) {
        assert.equal(calls[index], undefined, "a call begins once");
        calls[index] = { id, name: part!.name!, arguments: "" };
      }
      calls[index]!.arguments += part!.arguments!;
    }
  }
  return { content, reasoning, calls, finish };
}

for (const format of toolFormats) {
  inWorld(`cut after any event, the rest of all calls comes: ${format}`, async (world) => {
    const script = `<think>\nWhich?\n</think>\n\n${written[format]}`;
    const provider = {
      msPerToken: 20,
      contextTokensMax: 4_096,
      script: () => script,
      features: ["tools"],
      toolFormat: format,
      thoughtFormat: "tags",
    } as const;
    const first = world.start();
    await first.add("p1", provider);
    const whole = await read(await first.post("/v1/chat/completions", body, resume));
    const { calls, ...said } = madeOf(whole);
    assert.deepEqual(said, {
      content: format === "hermes" ? "Hm." : "",
      reasoning: "Which?",
      finish: "tool_calls",
    });
    assert.deepEqual(
      calls.map(({ name, arguments: given }) => [name, given]),
      [
        ["f", city],
        ["g", "{}"],
      ],
    );
    const ids = whole.map((event) => lastId([event]));
    assert.equal(new Set(ids).size, ids.length, "every event has an id of its own");
    // In the same process, from every event.
    const response = await first.post("/v1/chat/completions", body, resume);
    const id = idOf(response);
    const all = await read(response);
    for (let count = 1; count < all.length; count += 3) {
      const after = await read(await rest(first, id, lastId(all.slice(0, count))));
      assert.deepEqual(madeOf([...all.slice(0, count), ...after]), madeOf(all), `from ${count}`);
    }
    // In another one, which generates the rest.
    for (const count of [1, 9, 12, 20, all.length - 12, all.length - 2]) {
      const dying = world.start();
      await dying.add("p1", provider);
      const begun = await dying.post("/v1/chat/completions", body, resume);
      const before = await read(begun, count);
      dying.handle.isDead = true;
      const next = world.start();
      await next.add("p2", provider);
      const after = await read(await rest(next, idOf(begun), lastId(before)));
      const made = madeOf([...before, ...after]);
      assert.deepEqual(
        { ...made, calls: made.calls.map(({ name, arguments: given }) => [name, given]) },
        {
          ...said,
          calls: calls.map(({ name, arguments: given }) => [name, given]),
        },
      );
    }
  });
}
