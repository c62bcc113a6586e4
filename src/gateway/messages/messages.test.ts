import assert from "node:assert/strict";
import { test } from "node:test";
import type { GenerateRequest } from "../../protocol/generate.ts";
import { testGateway } from "../fixture.suite.ts";

const ask = { model: "naive", max_tokens: 5, messages: [{ role: "user", content: "Which goose?" }] };
const headers = { "x-api-key": "key-a", "anthropic-version": "2023-06-01" };

interface Message {
  type: string;
  content: { type: string; text: string }[];
  stop_reason: string;
  usage: { input_tokens: number; cache_read_input_tokens: number; output_tokens: number };
}

test("Anthropic's messages: the same answer as a chat completion's, whole and streamed", async () => {
  const own = testGateway({ apiKeys: ["key-a"] });
  await own.add("p1");
  const body = { ...ask, temperature: 0, system: [{ type: "text", text: "Be brief." }] };
  const response = await own.post("/v1/messages", body, headers);
  assert.equal(response.status, 200);
  assert.match(response.headers.get("request-id")!, /^req_/);
  const message = (await response.json()) as Message;
  const messages = [{ role: "system", content: "Be brief." }, ...ask.messages];
  const chat = await own.post(
    "/v1/chat/completions",
    { model: "naive", messages, max_tokens: 5, temperature: 0 },
    headers,
  );
  const completion = (await chat.json()) as {
    choices: { message: { content: string } }[];
    usage: { prompt_tokens: number };
  };
  assert.equal(message.type, "message");
  assert.deepEqual(message.content, [{ type: "text", text: completion.choices[0]!.message.content }]);
  assert.equal(message.stop_reason, "max_tokens");
  assert.equal(message.usage.output_tokens, 5);
  assert.equal(
    message.usage.input_tokens + message.usage.cache_read_input_tokens,
    completion.usage.prompt_tokens,
  );
  const stream = await (await own.post("/v1/messages", { ...body, stream: true }, headers)).text();
  const events = [...stream.matchAll(/^event: (.*)\ndata: (.*)$/gm)].map(([, type, data]) => ({
    name: type,
    ...JSON.parse(data!),
  }));
  assert.ok(events.every(({ name, type }) => name === type));
  assert.deepEqual(
    events.map(({ type }) => type).filter((type) => type !== "content_block_delta"),
    ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"],
  );
  const text = events.map(({ delta }) => delta?.text ?? "").join("");
  assert.equal(text, message.content[0]!.text);
  assert.equal(events.find(({ type }) => type === "message_delta").usage.output_tokens, 5);
  const counted = await own.post(
    "/v1/messages/count_tokens",
    { model: "naive", messages: ask.messages, system: "Be brief." },
    headers,
  );
  assert.deepEqual(await counted.json(), { input_tokens: completion.usage.prompt_tokens });
  const plain = await own.post("/v1/count_tokens", { model: "naive", messages }, headers);
  assert.equal(
    ((await plain.json()) as { input_tokens: number }).input_tokens,
    completion.usage.prompt_tokens,
  );
  const whole = await own.post(
    "/v1/messages",
    { ...ask, max_tokens: 400, stop_sequences: ["goose"] },
    headers,
  );
  assert.equal(((await whole.json()) as Message).stop_reason, "end_turn");
  own.gateway.close();
});

test("Anthropic's errors have Anthropic's shape, whatever is wrong", async () => {
  const own = testGateway({ apiKeys: ["key-a"] });
  await own.add("p1");
  const cases: [unknown, number, string, string | null][] = [
    [{ ...ask, max_tokens: undefined }, 400, "invalid_request_error", "max_tokens"],
    [{ ...ask, messages: [] }, 400, "invalid_request_error", "messages"],
    [
      { ...ask, messages: [{ role: "system", content: "x" }] },
      400,
      "invalid_request_error",
      "messages.0.role",
    ],
    [{ ...ask, temperature: 1.5 }, 400, "invalid_request_error", "temperature"],
    [{ ...ask, stop_sequences: ["a", "b", "c", "d", "e"] }, 400, "invalid_request_error", "stop_sequences"],
    [{ ...ask, tools: [{ name: "f" }] }, 400, "invalid_request_error", "tools"],
    [
      { ...ask, thinking: { type: "enabled", budget_tokens: 9 } },
      400,
      "invalid_request_error",
      "thinking.budget_tokens",
    ],
    [
      { ...ask, messages: [...ask.messages, { role: "assistant", content: "The" }] },
      400,
      "invalid_request_error",
      "messages.1",
    ],
    [
      { ...ask, messages: [{ role: "user", content: [{ type: "image" }] }] },
      400,
      "invalid_request_error",
      "messages.0.content.0",
    ],
    [{ ...ask, model: "nobody's" }, 404, "not_found_error", "model"],
    ["{", 400, "invalid_request_error", null],
  ];
  for (const [body, status, type, param] of cases) {
    const response = await own.post("/v1/messages", body, headers);
    const answer = (await response.json()) as {
      type: string;
      error: { type: string; param: string | null };
      request_id: string;
    };
    assert.equal(answer.type, "error");
    assert.match(answer.request_id, /^req_/);
    assert.deepEqual([response.status, answer.error.type, answer.error.param], [status, type, param]);
  }
  const noKey = await own.post("/v1/messages", ask);
  assert.equal(((await noKey.json()) as { error: { type: string } }).error.type, "authentication_error");
  const method = await own.get("/v1/messages", headers);
  assert.deepEqual([method.status, ((await method.json()) as { type: string }).type], [405, "error"]);
  const unknown = await own.get("/v1/messages/batches", headers);
  assert.deepEqual([unknown.status, ((await unknown.json()) as { type: string }).type], [404, "error"]);
  own.gateway.close();
});

const tool = {
  name: "get_weather",
  description: "The weather now.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const callText =
  '<think>Hm.</think>\n\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>';

test("Anthropic's tools and thoughts: used, answered, streamed", async () => {
  const own = testGateway();
  const asked: GenerateRequest[] = [];
  await own.add("p1", {
    contextTokensMax: 4_096,
    features: ["tools", "grammar", "no_thinking"],
    toolFormat: "hermes",
    thoughtFormat: "tags",
    script(request) {
      asked.push(request);
      const { prompt } = request;
      return prompt.kind === "chat" && prompt.messages.at(-1)?.role === "tool" ? "Sunny." : callText;
    },
  });
  const body = { ...ask, max_tokens: 500, tools: [tool] };
  const first = (await (await own.post("/v1/messages", body)).json()) as Message;
  assert.equal(first.stop_reason, "tool_use");
  const use = { type: "tool_use", name: "get_weather", input: { city: "Bern" } };
  const id = (first.content[2] as unknown as { id: string }).id;
  assert.deepEqual(first.content, [
    { type: "thinking", thinking: "Hm.", signature: "" },
    { type: "text", text: "I look." },
    { ...use, id },
  ]);
  const result = { type: "tool_result", tool_use_id: id, content: [{ type: "text", text: "sunny" }] };
  const messages = [
    ...ask.messages,
    { role: "assistant", content: first.content },
    { role: "user", content: [result] },
  ];
  const second = (await (await own.post("/v1/messages", { ...body, messages })).json()) as Message;
  assert.deepEqual([second.content, second.stop_reason], [[{ type: "text", text: "Sunny." }], "end_turn"]);
  const { prompt } = asked.at(-1)!;
  assert.ok(prompt.kind === "chat");
  assert.deepEqual(prompt.messages.slice(1), [
    {
      role: "assistant",
      content: "I look.",
      toolCalls: [{ id, name: "get_weather", arguments: '{"city":"Bern"}' }],
    },
    { role: "tool", content: "sunny", toolCallId: id },
  ]);
  const stream = await (await own.post("/v1/messages", { ...body, stream: true })).text();
  const events = [...stream.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!));
  const starts = events.filter(({ type }) => type === "content_block_start");
  assert.deepEqual(
    starts.map(({ index, content_block: block }) => [index, block.type]),
    [
      [0, "thinking"],
      [1, "text"],
      [2, "tool_use"],
    ],
  );
  const deltas = events.flatMap(({ delta }) => delta ?? []);
  assert.equal(deltas.map(({ partial_json: json }) => json ?? "").join(""), '{"city": "Bern"}');
  assert.equal(deltas.map(({ thinking }) => thinking ?? "").join(""), "Hm.");
  assert.equal(deltas.at(-1).stop_reason, "tool_use");
  const must = await own.post("/v1/messages", {
    ...body,
    tool_choice: { type: "any", disable_parallel_tool_use: true },
    thinking: { type: "disabled" },
  });
  assert.equal(must.status, 200, await must.text());
  const last = asked.at(-1)!;
  assert.match(last.constraint!.grammar, /^root ::= r\d+$/m);
  assert.ok(last.prompt.kind === "chat" && last.prompt.thinks === false);
  const cases: [object, string][] = [
    [{ tools: [{ type: "bash_20250124", name: "bash" }] }, "tools.0.type"],
    [{ tools: [{ ...tool, name: "a b" }] }, "tools.0.name"],
    [{ tools: [{ ...tool, input_schema: { type: "array" } }] }, "tools.0.input_schema"],
    [{ tool_choice: { type: "tool", name: "other" } }, "tool_choice"],
    [{ tool_choice: { type: "sometimes" } }, "tool_choice"],
    [
      { messages: [{ role: "user", content: [{ type: "tool_result" }] }] },
      "messages.0.content.0.tool_use_id",
    ],
    [{ messages: [{ role: "user", content: [{ ...result, content: 1 }] }] }, "messages.0.content.0.content"],
  ];
  for (const [more, param] of cases) {
    const response = await own.post("/v1/messages", { ...body, ...more });
    const { error } = (await response.json()) as { error: { param: string } };
    assert.deepEqual([response.status, error.param], [400, param], JSON.stringify(more));
  }
  own.gateway.close();
});
