/** Function tools on /v1/chat/completions, as the official client uses them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type OpenAI from "openai";
import type { GenerateRequest } from "../../protocol/generate.ts";
import type { ToolFormat } from "../../protocol/offer.ts";
import { clientOf, failure } from "../client.suite.ts";
import { question, testGateway } from "../fixture.suite.ts";

const city = '{"city": "Bern", "note": "a \\"}\\" b"}';
const tools: OpenAI.ChatCompletionTool[] = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather now.",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
  { type: "function", function: { name: "now" } },
];
const written: Record<ToolFormat, string> = {
  hermes: `Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": ${city}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>`,
  llama3: `{"name": "get_weather", "parameters": ${city}}; {"name": "now", "parameters": {}}`,
  mistral: `[TOOL_CALLS][{"name": "get_weather", "arguments": ${city}}, {"name": "now", "arguments": {}}]`,
  mistral_args: `[TOOL_CALLS]get_weather[ARGS]${city}[TOOL_CALLS]now[ARGS]{}`,
  generic: `{"name": "get_weather", "arguments": ${city}}\n{"name": "now", "arguments": {}}`,
};
const features = ["tools", "grammar", "json", "no_thinking"] as const;
const long = { contextTokensMax: 4_096 };

test("calls in every format come as OpenAI has them, whole and streamed", async () => {
  for (const [format, script] of Object.entries(written) as [ToolFormat, string][]) {
    const own = testGateway();
    await own.add("p1", { ...long, script: () => script, features, toolFormat: format });
    const client = clientOf(own);
    const whole = await client.chat.completions.create({ ...question, tools });
    const [choice] = whole.choices;
    assert.equal(choice!.finish_reason, "tool_calls", format);
    assert.equal(choice!.message.content, format === "hermes" ? "Let me see." : null);
    const calls = choice!.message.tool_calls!.map((call) => call.type === "function" && call.function);
    assert.deepEqual(calls, [
      { name: "get_weather", arguments: city },
      { name: "now", arguments: "{}" },
    ]);
    const stream = client.chat.completions.stream({ ...question, tools });
    const deltas: OpenAI.ChatCompletionChunk.Choice.Delta.ToolCall[] = [];
    for await (const chunk of stream) deltas.push(...(chunk.choices[0]?.delta.tool_calls ?? []));
    const first = deltas.filter(({ id }) => id !== undefined);
    assert.deepEqual(
      first.map(({ index, type, function: made }) => [index, type, made]),
      [
        [0, "function", { name: "get_weather", arguments: "" }],
        [1, "function", { name: "now", arguments: "" }],
      ],
    );
    const final = await stream.finalChatCompletion();
    const streamed = final.choices[0]!;
    assert.equal(streamed.finish_reason, "tool_calls");
    assert.equal(streamed.message.content, choice!.message.content);
    assert.deepEqual(
      streamed.message.tool_calls!.map((call) => call.type === "function" && call.function.arguments),
      [city, "{}"],
    );
    own.gateway.close();
  }
});

test("what was called and answered goes to the model, and its next answer may be words", async () => {
  const own = testGateway();
  const prompts: GenerateRequest["prompt"][] = [];
  const script = ({ prompt }: GenerateRequest): string => {
    prompts.push(prompt);
    const answered = prompt.kind === "chat" && prompt.messages.some(({ role }) => role === "tool");
    return answered ? "It is sunny." : written.hermes;
  };
  await own.add("p1", { ...long, script, features, toolFormat: "hermes" });
  const client = clientOf(own);
  const messages: OpenAI.ChatCompletionMessageParam[] = [...question.messages];
  const runner = client.chat.completions.runTools({
    model: "naive",
    messages,
    tools: tools.map((tool) => ({
      ...(tool as OpenAI.ChatCompletionFunctionTool),
      function: {
        ...(tool as OpenAI.ChatCompletionFunctionTool).function,
        parse: JSON.parse,
        function: () => "sunny",
        parameters: {},
      },
    })) as never,
  });
  assert.equal(await runner.finalContent(), "It is sunny.");
  const last = prompts.at(-1)!;
  assert.ok(last.kind === "chat");
  assert.deepEqual(
    last.messages.map(({ role, toolCalls, toolCallId }) => [
      role,
      toolCalls?.length ?? toolCallId !== undefined,
    ]),
    [
      ["user", false],
      ["assistant", 2],
      ["tool", true],
      ["tool", true],
    ],
  );
  assert.equal(last.messages[1]!.toolCalls![0]!.id, last.messages[2]!.toolCallId);
  assert.deepEqual(
    last.tools!.map(({ name }) => name),
    ["get_weather", "now"],
  );
  own.gateway.close();
});

test("what must be called is a grammar in the model's own syntax, and none is no tools at all", async () => {
  const own = testGateway();
  const asked: GenerateRequest[] = [];
  const script = (request: GenerateRequest): string => {
    asked.push(request);
    return "words";
  };
  await own.add("p1", { ...long, script, features, toolFormat: "mistral" });
  const client = clientOf(own);
  const ask = async (more: object): Promise<GenerateRequest> => {
    await client.chat.completions.create({ ...question, tools, ...more });
    return asked.at(-1)!;
  };
  assert.match((await ask({ tool_choice: "required" })).constraint!.grammar, /"\[TOOL_CALLS\]\["/);
  assert.match((await ask({})).constraint!.grammar, /TagDispatch/);
  const named = { type: "function", function: { name: "now" } };
  const { constraint, prompt } = await ask({ tool_choice: named, parallel_tool_calls: false });
  assert.doesNotMatch(constraint!.grammar, /get_weather|\{0,15\}/);
  assert.ok(prompt.kind === "chat" && prompt.tools!.length === 2);
  const allowed = { type: "allowed_tools", allowed_tools: { mode: "required", tools: [named] } };
  assert.equal((await ask({ tool_choice: allowed })).constraint!.grammar.includes("get_weather"), false);
  const none = await ask({ tool_choice: "none" });
  assert.ok(none.prompt.kind === "chat" && none.prompt.tools === undefined && none.constraint === null);
  own.gateway.close();
});

test("thoughts are reasoning_content, and can be left out where the model can", async () => {
  const own = testGateway();
  const script = ({ prompt }: GenerateRequest): string =>
    prompt.kind === "chat" && prompt.thinks === false ? "Yes." : "<think>\nHm.\n</think>\n\nYes.";
  await own.add("p1", { ...long, script, features, thoughtFormat: "tags" });
  const client = clientOf(own);
  const { message } = (await client.chat.completions.create(question)).choices[0]!;
  assert.deepEqual(
    [message.content, (message as { reasoning_content?: string }).reasoning_content],
    ["Yes.", "Hm."],
  );
  let [thoughts, content] = ["", ""];
  for await (const { choices } of await client.chat.completions.create({ ...question, stream: true })) {
    const delta = choices[0]!.delta as { content?: string; reasoning_content?: string };
    thoughts += delta.reasoning_content ?? "";
    content += delta.content ?? "";
  }
  assert.deepEqual([content, thoughts], ["Yes.", "Hm."]);
  const silent = await client.chat.completions.create({ ...question, reasoning_effort: "none" });
  assert.deepEqual(Object.keys(silent.choices[0]!.message), ["role", "content", "refusal"]);
  await assert.rejects(
    client.chat.completions.create({ ...question, reasoning_effort: "high" }),
    failure(400, "reasoning_effort"),
  );
  own.gateway.close();
});

test("wrong tools are refused by name, and models that cannot call say so", async () => {
  const own = testGateway();
  await own.add("p1", { features });
  await own.add("p2", { modelId: "plain:1", name: "plain" });
  await own.add("p3", { modelId: "long:1", name: "long", features, contextTokensMax: 400_000 });
  const f = { type: "function", function: { name: "f" } };
  const call = { id: "c1", type: "function", function: { name: "f", arguments: "{}" } };
  const cases: [object, string][] = [
    [{ tools: "f" }, "tools"],
    [{ tools: [null] }, "tools"],
    [{ tools: [{ type: "custom", custom: { name: "f" } }] }, "tools.0.type"],
    [{ tools: [{ type: "function" }] }, "tools.0.function"],
    [{ tools: [{ type: "function", function: { name: "a b" } }] }, "tools.0.function.name"],
    [{ tools: [f, f] }, "tools.1.function.name"],
    [
      { tools: [{ type: "function", function: { name: "f", parameters: { type: "string" } } }] },
      "tools.0.function.parameters",
    ],
    [
      { tools: [{ type: "function", function: { name: "f", parameters: [] } }] },
      "tools.0.function.parameters",
    ],
    [
      { tools: [{ type: "function", function: { name: "f", strict: true, parameters: { not: {} } } }] },
      "tools",
    ],
    [{ tools: Array.from({ length: 129 }, (_, i) => ({ ...f, function: { name: `f${i}` } })) }, "tools"],
    [{ tools: [f], tool_choice: "sometimes" }, "tool_choice"],
    [{ tools: [f], tool_choice: { type: "function", function: { name: "g" } } }, "tool_choice"],
    [{ tool_choice: "required" }, "tool_choice"],
    [{ tools: [f], parallel_tool_calls: 1 }, "parallel_tool_calls"],
    [{ tools: [f], response_format: { type: "json_object" } }, "response_format"],
    [{ functions: [{ name: "f" }] }, "functions"],
    [{ messages: [{ role: "tool", content: "x" }] }, "messages.0.tool_call_id"],
    [{ messages: [{ role: "tool", content: "x", tool_call_id: "c" }] }, "messages.0.tool_call_id"],
    [{ messages: [{ role: "user", content: "x", tool_calls: [call] }] }, "messages.0.tool_calls"],
    [{ messages: [{ role: "assistant", tool_calls: [{ id: "c" }] }] }, "messages.0.tool_calls.0"],
    [{ messages: [{ role: "assistant", tool_calls: [{ ...call, id: "" }] }] }, "messages.0.tool_calls"],
    [{ model: "plain", tools: [f] }, "tools"],
    [{ model: "plain", reasoning_effort: "none" }, "reasoning_effort"],
  ];
  for (const [more, param] of cases) {
    const response = await own.post("/v1/chat/completions", { ...question, ...more });
    const { error } = (await response.json()) as { error: { param: string; code: string } };
    assert.deepEqual([response.status, error.param], [400, param], JSON.stringify(more).slice(0, 100));
  }
  // A schema that no grammar can say is no hindrance where it need not be kept.
  const loose = { type: "function", function: { name: "f", parameters: { type: "object", not: {} } } };
  assert.equal((await own.post("/v1/chat/completions", { ...question, tools: [loose] })).status, 200);
  // Nor are many functions, which together are too much for one.
  const properties = Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [
      `property_${i}`,
      { type: "array", items: { enum: [`${i}`.repeat(40)] } },
    ]),
  );
  const many = Array.from({ length: 100 }, (_, i) => {
    const named = Object.fromEntries(
      Object.entries(properties).map(([name, value]) => [`${name}_${i}`, value]),
    );
    return {
      type: "function",
      function: { name: `f${i}`, parameters: { type: "object", properties: named } },
    };
  });
  const big = await own.post("/v1/chat/completions", { ...question, tools: many, model: "long" });
  assert.equal(big.status, 200, await big.text());
  own.gateway.close();
});

test("what is nested too deep for any schema is refused, wherever it stands", async () => {
  const own = testGateway();
  await own.add("p1", { ...long, features });
  const nested = (levels: number): string => '{"items":'.repeat(levels) + "{}" + "}".repeat(levels);
  const messages = JSON.stringify(question.messages);
  const bodyOf = (levels: number): Record<string, string> => ({
    "/v1/chat/completions": `{"model":"naive","stream":true,"messages":${messages},"tools":[{"type":"function","function":{"name":"f","parameters":${nested(levels)}}}]}`,
    "/v1/responses": `{"model":"naive","input":"a","tools":[{"type":"function","name":"f","parameters":${nested(levels)}}]}`,
    "/v1/messages": `{"model":"naive","max_tokens":4,"messages":${messages},"tools":[{"name":"f","input_schema":${nested(levels)}}]}`,
  });
  for (const [levels, status] of [
    [20, 200],
    [200, 200],
    [300, 400],
    [100_000, 400],
  ] as const) {
    for (const [path, body] of Object.entries(bodyOf(levels))) {
      const response = await own.post(path, body, { "x-skein-resume": "true" });
      assert.equal(response.status, status, `${path} ${levels} ${await response.text()}`);
    }
  }
  own.gateway.close();
});

test("nonsense in tools, in any of the three surfaces, is a client's error: never a 500", async () => {
  const own = testGateway();
  await own.add("p1", { ...long, features, toolFormat: "hermes", thoughtFormat: "tags", answerTokens: 2 });
  const name = fc.oneof(
    { weight: 5, arbitrary: fc.constant("f") },
    fc.constantFrom("g", "a b", "", 7, null, {}),
  );
  const schema = fc.oneof(
    { weight: 5, arbitrary: fc.constant({ type: "object" }) },
    fc.constantFrom({ type: "string" }, [], null, { $ref: "#" }, { not: {} }),
    fc.jsonValue(),
  );
  const loose = (keys: string[]): fc.Arbitrary<unknown> =>
    fc.dictionary(fc.constantFrom(...keys), fc.oneof(name, schema, fc.boolean()), { maxKeys: 5 });
  const type = fc.oneof(
    { weight: 5, arbitrary: fc.constant("function") },
    fc.constantFrom("custom", "tool", "any", "allowed_tools", "web_search", null),
  );
  const described = fc.record(
    { name, parameters: schema, input_schema: schema, strict: fc.constantFrom(true, false, 1) },
    { requiredKeys: ["name"] },
  );
  const tool = fc.oneof(
    fc.record({ type, function: described }),
    fc.tuple(type, described).map(([kind, rest]) => ({ type: kind, ...rest })),
    loose(["type", "function", "name"]),
  );
  const call = fc.record(
    { id: name, type, function: fc.record({ name, arguments: fc.constantFrom("{}", "{", 1, null) }) },
    { requiredKeys: [] },
  );
  const block = fc.record(
    {
      type: fc.constantFrom(
        "text",
        "tool_use",
        "tool_result",
        "thinking",
        "function_call",
        "function_call_output",
      ),
      text: name,
      id: name,
      call_id: name,
      name,
      input: schema,
      arguments: name,
      output: schema,
      tool_use_id: name,
      content: schema,
    },
    { requiredKeys: ["type"] },
  );
  const message = fc.record(
    {
      role: fc.constantFrom("user", "assistant", "tool"),
      content: fc.oneof(fc.constantFrom("a", null), fc.array(block, { maxLength: 3 })),
      tool_calls: fc.oneof(fc.array(call, { maxLength: 2 }), name),
      tool_call_id: name,
    },
    { requiredKeys: ["role"] },
  );
  const choice = fc.oneof(
    fc.constantFrom("auto", "none", "required", "x"),
    fc.record({ type, name, function: fc.record({ name }) }),
    loose(["type", "name", "mode", "tools", "allowed_tools"]),
  );
  const body: fc.Arbitrary<Record<string, unknown>> = fc.record(
    {
      tools: fc.oneof({ weight: 4, arbitrary: fc.array(tool, { maxLength: 2 }) }, schema),
      tool_choice: choice,
      parallel_tool_calls: fc.constantFrom(true, false, 1),
      reasoning_effort: name,
      reasoning: loose(["effort", "summary"]),
      thinking: loose(["type", "budget_tokens"]),
      messages: fc.array(message, { minLength: 1, maxLength: 3 }),
      input: fc.array(fc.oneof(block, message), { minLength: 1, maxLength: 3 }),
    },
    { requiredKeys: [] },
  );
  const bodyKeys =
    "tools tool_choice parallel_tool_calls reasoning_effort reasoning thinking messages input".split(" ");
  // Few things at a time: else nothing of them is right.
  const sparse = fc
    .tuple(body, fc.subarray(bodyKeys, { minLength: 1, maxLength: 3 }))
    .map(([all, keys]) => Object.fromEntries(keys.map((key) => [key, all[key]])));
  /** What is asked besides, and which of the fields there are. */
  const { model, messages } = question;
  const shared = ["tools", "tool_choice"];
  const surfaces = {
    "/v1/chat/completions": [
      { model, messages, max_tokens: 4 },
      [...shared, "parallel_tool_calls", "reasoning_effort", "messages"],
    ],
    "/v1/responses": [
      { model, input: "a", store: false, max_output_tokens: 4 },
      [...shared, "parallel_tool_calls", "reasoning", "input"],
    ],
    "/v1/messages": [{ model, messages, max_tokens: 4 }, [...shared, "thinking", "messages"]],
  } as const;
  const paths = fc.constantFrom(...(Object.keys(surfaces) as (keyof typeof surfaces)[]));
  let answers = 0;
  await fc.assert(
    fc.asyncProperty(paths, sparse, async (path, given) => {
      const [common, fields] = surfaces[path];
      const known = Object.entries(given).filter(([key]) => (fields as readonly string[]).includes(key));
      const response = await own.post(path, { ...common, ...Object.fromEntries(known) });
      const text = await response.text();
      if (response.status === 200) return void (answers += 1);
      assert.ok(response.status < 500, `${path} ${response.status} ${text}`);
      const { error } = JSON.parse(text) as { error: { message: unknown; param: unknown } };
      assert.ok(typeof error.message === "string" && error.param !== undefined);
    }),
    { numRuns: 600 },
  );
  assert.ok(answers > 20, `only ${answers} were answered`);
  own.gateway.close();
});
