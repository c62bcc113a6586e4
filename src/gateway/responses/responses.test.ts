import assert from "node:assert/strict";
import { test } from "node:test";
import type OpenAI from "openai";
import type { GenerateRequest } from "../../protocol/generate.ts";
import { MemoryStore } from "../../store/memory.ts";
import { systemClock } from "../../util/clock.ts";
import { clientOf, failure } from "../client.suite.ts";
import { testGateway } from "../fixture.suite.ts";

const ask = { model: "naive", input: "Which goose?" } as const;

async function ended(client: OpenAI, id: string): Promise<OpenAI.Responses.Response> {
  for (let i = 0; i < 500; i++) {
    const response = await client.responses.retrieve(id);
    if (response.status !== "queued" && response.status !== "in_progress") return response;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("the response does not end");
}

test("responses: answered as chat completions are, kept, read and deleted by their API key", async () => {
  const own = testGateway({ apiKeys: ["key-a", "key-b"] });
  await own.add("p1");
  const client = clientOf(own);
  const response = await client.responses.create({
    ...ask,
    instructions: "Be brief.",
    max_output_tokens: 5,
    temperature: 0,
  });
  const chat = await client.chat.completions.create({
    model: "naive",
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: ask.input },
    ],
    max_tokens: 5,
    temperature: 0,
  });
  assert.equal(response.output_text, chat.choices[0]!.message.content);
  assert.equal(response.status, "incomplete");
  assert.equal(response.incomplete_details!.reason, "max_output_tokens");
  assert.equal(response.usage!.output_tokens, 5);
  assert.equal(response.usage!.input_tokens, chat.usage!.prompt_tokens);
  const kept = await client.responses.retrieve(response.id);
  assert.equal(kept.output_text, response.output_text);
  const items = await client.responses.inputItems.list(response.id);
  assert.deepEqual((items.data[0] as { content?: unknown }).content, [
    { type: "input_text", text: ask.input },
  ]);
  await assert.rejects(clientOf(own, "key-b").responses.retrieve(response.id), failure(404, null));
  await client.responses.delete(response.id);
  await assert.rejects(client.responses.retrieve(response.id), failure(404, null));
  const fleeting = await client.responses.create({ ...ask, store: false });
  assert.equal(fleeting.status, "completed");
  await assert.rejects(client.responses.retrieve(fleeting.id), failure(404, null));
  const counted = await client.responses.inputTokens.count({ ...ask, instructions: "Be brief." });
  assert.equal(counted.input_tokens, chat.usage!.prompt_tokens);
  own.gateway.close();
});

test("responses: a conversation goes on from the one before", async () => {
  const own = testGateway();
  await own.add("p1");
  const client = clientOf(own);
  const first = await client.responses.create({ ...ask, instructions: "Forgotten later.", temperature: 0 });
  const second = await client.responses.create({
    ...ask,
    input: "And then?",
    previous_response_id: first.id,
    temperature: 0,
  });
  const whole = await client.chat.completions.create({
    model: "naive",
    messages: [
      { role: "user", content: ask.input },
      { role: "assistant", content: first.output_text },
      { role: "user", content: "And then?" },
    ],
    temperature: 0,
  });
  assert.equal(second.output_text, whole.choices[0]!.message.content);
  assert.equal(second.usage!.input_tokens, whole.usage!.prompt_tokens);
  await client.responses.delete(first.id);
  await assert.rejects(
    client.responses.create({ ...ask, previous_response_id: first.id }),
    failure(404, "previous_response_id"),
  );
  own.gateway.close();
});

test("responses: the whole stream of events, in order, and a failure in the middle", async () => {
  let fails = false;
  const own = testGateway();
  await own.add("p1", {
    onToken: (_, position) => {
      if (fails && position === 3) throw new Error("broken");
    },
  });
  const client = clientOf(own);
  const types: string[] = [];
  let text = "";
  let last: OpenAI.Responses.ResponseStreamEvent | null = null;
  for await (const event of await client.responses.create({ ...ask, stream: true })) {
    assert.equal(event.sequence_number, types.length);
    types.push(event.type);
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  assert.ok(last?.type === "response.completed");
  assert.equal(
    last.response.output_text ??
      (last.response.output[0] as never as { content: { text: string }[] }).content[0]!.text,
    text,
  );
  assert.deepEqual(
    types.filter((type) => type !== "response.output_text.delta"),
    [
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ],
  );
  assert.equal((await client.responses.retrieve(last.response.id)).output_text, text);
  // The client's own reading of the stream.
  const final = await client.responses.stream({ ...ask, temperature: 0 }).finalResponse();
  assert.ok(final.output_text.length > 0);
  fails = true;
  let failed = "";
  for await (const event of await client.responses.create({ ...ask, stream: true })) failed = event.type;
  assert.equal(failed, "response.failed");
  own.gateway.close();
});

test("responses in the background: polled, cancelled, and gone on with after the gateway's end", async () => {
  const store = new MemoryStore(systemClock);
  const own = testGateway({}, 1, systemClock, store);
  await own.add("p1", { msPerToken: 2 });
  const client = clientOf(own);
  const made = await client.responses.create({ ...ask, background: true });
  assert.equal(made.status, "queued");
  const done = await ended(client, made.id);
  assert.equal(done.status, "completed");
  assert.ok(done.output_text.length > 0);
  const long = await client.responses.create({ ...ask, background: true });
  assert.equal((await client.responses.cancel(long.id)).status, "cancelled");
  assert.equal((await ended(client, long.id)).status, "cancelled");
  assert.equal((await store.scan({ prefix: "response-active/", limit: 9 })).length, 0);
  const left = await client.responses.create({ ...ask, background: true });
  own.gateway.close();
  const next = testGateway({}, 2, systemClock, store);
  await next.add("p1");
  assert.equal((await ended(clientOf(next), left.id)).status, "completed");
  await assert.rejects(
    clientOf(next).responses.cancel((await clientOf(next).responses.create(ask)).id),
    failure(400, "response_id"),
  );
  next.gateway.close();
});

test("responses: what is not served is refused by its own name", async () => {
  const own = testGateway();
  await own.add("p1");
  const cases: [object, string, number][] = [
    [{ model: "naive" }, "input", 400],
    [{ ...ask, input: [] }, "input", 400],
    [
      { ...ask, input: [{ role: "user", content: [{ type: "input_image", image_url: "x" }] }] },
      "input.0.content.0",
      400,
    ],
    [{ ...ask, input: [{ role: "robot", content: "x" }] }, "input.0.role", 400],
    [{ ...ask, tools: [{ type: "function", name: "f" }] }, "tools", 400],
    [{ ...ask, conversation: "conv_1" }, "conversation", 400],
    [{ ...ask, reasoning: { effort: "high" } }, "reasoning.effort", 400],
    [{ ...ask, max_output_tokens: 0 }, "max_output_tokens", 400],
    [{ ...ask, temperature: 3 }, "temperature", 400],
    [{ ...ask, metadata: [] }, "metadata", 400],
    [{ ...ask, previous_response_id: "resp_x" }, "previous_response_id", 404],
    [{ ...ask, background: true, store: false }, "background", 400],
    [{ ...ask, input: "moo ".repeat(3000) }, "input", 400],
    [{ ...ask, model: "nobody's" }, "model", 404],
  ];
  for (const [body, param, status] of cases) {
    const response = await own.post("/v1/responses", body);
    const { error } = (await response.json()) as { error: { param: string } };
    assert.deepEqual([response.status, error.param], [status, param], JSON.stringify(body).slice(0, 100));
  }
  own.gateway.close();
});

const tool = {
  type: "function" as const,
  name: "get_weather",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
};
const callText = `Hm.</think>\n\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>`;
const caller = {
  contextTokensMax: 4_096,
  features: ["tools", "grammar", "no_thinking"],
  toolFormat: "hermes",
  thoughtFormat: "opened",
  script: ({ prompt }: GenerateRequest): string =>
    prompt.kind === "chat" && prompt.messages.at(-1)?.role === "tool" ? "Hm.</think>Sunny." : callText,
} as const;

test("responses: functions are called, and their outputs read, in one conversation and across responses", async () => {
  const own = testGateway();
  await own.add("p1", caller);
  const client = clientOf(own);
  const first = await client.responses.create({ ...ask, tools: [tool], tool_choice: "auto" });
  assert.deepEqual(
    first.output.map(({ type }) => type),
    ["reasoning", "message", "function_call"],
  );
  assert.equal(first.output_text, "I look.");
  const call = first.output[2] as OpenAI.Responses.ResponseFunctionToolCall;
  assert.deepEqual(
    [call.name, call.arguments, call.status],
    ["get_weather", '{"city": "Bern"}', "completed"],
  );
  const output = { type: "function_call_output" as const, call_id: call.call_id, output: "sunny" };
  const second = await client.responses.create({
    model: "naive",
    previous_response_id: first.id,
    input: [output],
    tools: [tool],
  });
  assert.equal(second.output_text, "Sunny.");
  const items = await client.responses.inputItems.list(second.id);
  assert.equal(items.data[0]!.type, "function_call_output");
  // The same without anything kept.
  const input = [{ role: "user" as const, content: ask.input }, ...first.output, output];
  const alone = await client.responses.create({
    model: "naive",
    input: input as never,
    tools: [tool],
    store: false,
  });
  assert.equal(alone.output_text, "Sunny.");
  assert.equal(alone.usage!.input_tokens, second.usage!.input_tokens);
  own.gateway.close();
});

test("responses: calls and thoughts come as events, in OpenAI's order", async () => {
  const own = testGateway();
  await own.add("p1", caller);
  const client = clientOf(own);
  const types: string[] = [];
  let given = "";
  let last: OpenAI.Responses.ResponseStreamEvent | null = null;
  const stream = client.responses.stream({ ...ask, tools: [tool] });
  for await (const event of stream) {
    if (types.at(-1) !== event.type) types.push(event.type);
    if (event.type === "response.function_call_arguments.delta") given += event.delta;
    last = event;
  }
  assert.equal(given, '{"city": "Bern"}');
  const part = ["response.content_part.added", "response.content_part.done"];
  const item = (deltas: string, isText: boolean): string[] => [
    "response.output_item.added",
    ...(isText ? [part[0]!] : []),
    `response.${deltas}.delta`,
    `response.${deltas}.done`,
    ...(isText ? [part[1]!] : []),
    "response.output_item.done",
  ];
  assert.deepEqual(types, [
    "response.created",
    "response.in_progress",
    ...item("reasoning_text", true),
    ...item("output_text", true),
    ...item("function_call_arguments", false),
    "response.completed",
  ]);
  assert.ok(last?.type === "response.completed");
  assert.equal(last.response.output.length, 3);
  const final = await stream.finalResponse();
  assert.equal(final.output_text, "I look.");
  own.gateway.close();
});

test("responses: wrong functions and items are refused by their own names", async () => {
  const own = testGateway();
  await own.add("p1", caller);
  const cases: [object, string][] = [
    [{ tools: [{ type: "web_search" }] }, "tools.0.type"],
    [{ tools: [{ type: "function" }] }, "tools.0.name"],
    [{ tools: [{ type: "function", name: "a b" }] }, "tools.0.name"],
    [{ tools: [{ ...tool, parameters: { type: "array" } }] }, "tools.0.parameters"],
    [{ tools: [tool], tool_choice: { type: "function", name: "other" } }, "tool_choice"],
    [{ tools: [tool], tool_choice: { type: "allowed_tools", mode: "auto", tools: 1 } }, "tool_choice"],
    [{ input: [{ type: "function_call_output", call_id: "x", output: "y" }] }, "input.0.call_id"],
    [{ input: [{ type: "function_call_output", output: "y" }] }, "input.0.call_id"],
    [{ input: [{ type: "function_call_output", call_id: "x", output: [{}] }] }, "input.0.output"],
    [{ input: [{ type: "function_call_output", call_id: "x", output: [null] }] }, "input.0.output"],
    [{ input: [{ type: "function_call", call_id: "x", name: "f" }] }, "input.0.arguments"],
    [{ input: [{ type: "computer_call" }] }, "input.0.type"],
    [{ reasoning: { effort: "high" } }, "reasoning.effort"],
    [{ reasoning: { summary: "auto" } }, "reasoning.summary"],
  ];
  for (const [more, param] of cases) {
    const response = await own.post("/v1/responses", { ...ask, ...more });
    const { error } = (await response.json()) as { error: { param: string } };
    assert.deepEqual([response.status, error.param], [400, param], JSON.stringify(more));
  }
  own.gateway.close();
});
