/** Every kind of bad request: status, code, parameter, and a message that says what to do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { question, testGateway } from "./fixture.suite.ts";
import { requestBodyBytesMax } from "./options.ts";

const chat = "/v1/chat/completions";
const text = "/v1/completions";
const user = (content: unknown) => ({ messages: [{ role: "user", content }] });

interface Row {
  readonly name: string;
  readonly body: unknown;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly status?: number;
  readonly code?: string;
  readonly param?: string | null;
  readonly says: RegExp;
}

const wrong = (name: string, change: object, param: string, says: RegExp, path = chat): Row => ({
  name,
  body: { ...(path === chat ? question : { model: "naive" }), ...change },
  path,
  param,
  says,
});
const unsupported = (name: string, change: object, param: string, path = chat): Row => ({
  name: `${name} is refused by name`,
  body: { ...(path === chat ? question : { model: "naive", prompt: "a" }), ...change },
  path,
  code: "unsupported_parameter",
  param,
  says: /not supported/,
});

const formatRow = (
  name: string,
  format: unknown,
  says: RegExp,
  code: "invalid_request" | "unsupported_parameter" = "invalid_request",
): Row => ({ name, body: { ...question, response_format: format }, code, says });
const schemaRow = (schema: unknown, says: RegExp, code?: "unsupported_parameter"): Row => ({
  ...formatRow(
    `the schema ${JSON.stringify(schema).slice(0, 60)}`,
    { type: "json_schema", json_schema: { name: "a", schema } },
    says,
    code,
  ),
  param: "response_format",
});
const nested = (depth: number): unknown => (depth === 0 ? {} : { type: "array", items: nested(depth - 1) });
const manyNames = Array.from({ length: 5_001 }, (_, i) => [`p${i}`, {}]);

const formats: Row[] = [
  formatRow("a format by name", "json", /"type": "json_object"/),
  formatRow("an unknown format", { type: "xml" }, /"type": "json_object"/),
  formatRow(
    "a schema without a name",
    { type: "json_schema", json_schema: { schema: {} } },
    /letters, digits/,
  ),
  formatRow(
    "a schema that is a list",
    { type: "json_schema", json_schema: { name: "a", schema: [] } },
    /a JSON schema/,
  ),
  formatRow("no schema", { type: "json_schema" }, /an object like/),
  formatRow("an expression that is none", { type: "regex", pattern: "a(" }, /unmatched '\('/),
  formatRow("a look ahead", { type: "regex", pattern: "(?=a)" }, /lookaround/, "unsupported_parameter"),
  formatRow("no grammar", { type: "grammar", grammar: "" }, /rule 'root'/),
  schemaRow({ not: {} }, /'not' is not supported/, "unsupported_parameter"),
  schemaRow(
    { properties: { a: { multipleOf: 997 } } },
    /'properties\.a'.*'multipleOf'/,
    "unsupported_parameter",
  ),
  schemaRow({ if: {}, anyOf: [] }, /'if' is not supported/, "unsupported_parameter"),
  schemaRow({ type: "array", uniqueItems: true }, /'uniqueItems'/, "unsupported_parameter"),
  schemaRow({ type: "number", multipleOf: 0 }, /above 0/),
  schemaRow({ type: "number", multipleOf: 1e-7 }, /'multipleOf'/, "unsupported_parameter"),
  schemaRow({ type: "integer", minimum: 1, maximum: 2, multipleOf: 7 }, /no multiple/),
  schemaRow(
    { type: "array", items: { enum: ["a"] }, uniqueItems: true, minItems: 2 },
    /more different items/,
  ),
  schemaRow({ allOf: [{}, {}] }, /more than one/, "unsupported_parameter"),
  schemaRow({ oneOf: [{ type: "integer" }, { type: "number" }] }, /may both match/, "unsupported_parameter"),
  schemaRow({ $ref: "https://example.com/a" }, /only references within/, "unsupported_parameter"),
  schemaRow({ $ref: "#/$defs/a" }, /'#\/\$defs\/a' is not there/),
  schemaRow({ $ref: "#" }, /refers to itself/),
  schemaRow({ type: "strange" }, /'type' must be/),
  schemaRow(false, /allows no value/),
  schemaRow({ type: "integer", minimum: 3, maximum: 2 }, /within its bounds/),
  schemaRow({ type: "string", maxLength: 1_000_000 }, /above 256/, "unsupported_parameter"),
  schemaRow({ type: "string", format: "zip" }, /format "zip"/, "unsupported_parameter"),
  schemaRow({ type: "string", pattern: "(" }, /unmatched/),
  schemaRow({ type: "array", minItems: 20_000 }, /above 10000/, "unsupported_parameter"),
  schemaRow(nested(70), /nested deeper than 64/),
  schemaRow({ properties: Object.fromEntries(manyNames) }, /more than 5000 properties/),
  schemaRow({ description: "a".repeat(200_000) }, /longer than 131072/),
];

const rows: Row[] = [
  {
    name: "half of a JSON text",
    body: '{"model": "naive", "mess',
    code: "invalid_json",
    says: /JSON.*24|position/,
  },
  { name: "no JSON", body: '{"model": oops}', code: "invalid_json", says: /JSON.*(oops|position)/ },
  { name: "an empty body", body: "", code: "invalid_json", says: /ends too early, after 0/ },
  { name: "a list", body: "[]", says: /must be a JSON object/ },
  { name: "null", body: "null", says: /must be a JSON object/ },
  {
    name: "invalid UTF-8",
    body: Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d),
    code: "invalid_json",
    says: /UTF-8/,
  },
  {
    name: "a form",
    body: "model=naive",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    status: 415,
    code: "unsupported_media_type",
    says: /application\/json/,
  },
  {
    name: "50 MB, announced",
    body: "{}",
    headers: { "content-length": String(50 * 1024 * 1024) },
    status: 413,
    code: "request_too_large",
    says: new RegExp(String(requestBodyBytesMax)),
  },
  {
    name: "a body that is larger than announced",
    body: `{"model":"${"x".repeat(requestBodyBytesMax)}"}`,
    status: 413,
    code: "request_too_large",
    says: new RegExp(String(requestBodyBytesMax)),
  },
  {
    name: "a prompt that no session can carry",
    body: { ...question, ...user("x".repeat(4 * 1024 * 1024)) },
    status: 413,
    code: "request_too_large",
    param: "messages",
    says: /3145728 bytes/,
  },
  wrong("no model", { model: undefined }, "model", /'model' is missing/),
  wrong("an empty model", { model: "" }, "model", /non-empty/),
  wrong("a model that is a number", { model: 7 }, "model", /but it is 7/),
  {
    name: "an unknown model",
    body: { ...question, model: "nope" },
    status: 404,
    code: "model_not_found",
    param: "model",
    says: /'nope'.*Served now: naive/,
  },
  wrong("no messages", { messages: undefined }, "messages", /'messages' is missing/),
  wrong("empty messages", { messages: [] }, "messages", /at least one message/),
  wrong("messages as a text", { messages: "hi" }, "messages", /must be a list.*"hi"/),
  wrong("a message that is a text", { messages: ["hi"] }, "messages.0", /'role' and 'content'/),
  wrong("an unknown role", { messages: [{ role: "bot", content: "x" }] }, "messages.0.role", /"bot"/),
  wrong("no content", { messages: [{ role: "user" }] }, "messages.0.content", /is missing/),
  wrong("content null", user(null), "messages.0.content", /must be a text/),
  wrong("content as a number", user(3), "messages.0.content", /but it is 3/),
  wrong("a text part without text", user([{ type: "text" }]), "messages.0.content.0.text", /must be a text/),
  unsupported("an image", user([{ type: "image_url", image_url: { url: "x" } }]), "messages.0.content.0"),
  unsupported("audio in", user([{ type: "input_audio" }]), "messages.0.content.0"),
  wrong("max_tokens 0", { max_tokens: 0 }, "max_tokens", /positive integer, but it is 0/),
  wrong("max_tokens negative", { max_tokens: -5 }, "max_tokens", /-5/),
  wrong("max_tokens with a fraction", { max_tokens: 1.5 }, "max_tokens", /1.5/),
  wrong("max_tokens beyond integers", { max_tokens: 1e300 }, "max_tokens", /1e\+300/),
  wrong("max_completion_tokens as text", { max_completion_tokens: "9" }, "max_completion_tokens", /"9"/),
  wrong("temperature too high", { temperature: 2.01 }, "temperature", /0 to 2/),
  wrong("temperature negative", { temperature: -0.1 }, "temperature", /0 to 2/),
  {
    name: "temperature infinite",
    body: '{"model":"naive","messages":[{"role":"user","content":"a"}],"temperature":1e999}',
    param: "temperature",
    says: /0 to 2/,
  },
  wrong("temperature as text", { temperature: "hot" }, "temperature", /"hot"/),
  wrong("top_p beyond 1", { top_p: 1.1 }, "top_p", /0 to 1/),
  wrong("top_k with a fraction", { top_k: 0.5 }, "top_k", /integer/),
  wrong("min_p negative", { min_p: -1 }, "min_p", /0 to 1/),
  wrong("presence_penalty", { presence_penalty: 3 }, "presence_penalty", /-2 to 2/),
  wrong("frequency_penalty", { frequency_penalty: -3 }, "frequency_penalty", /-2 to 2/),
  wrong("a bias that is a list", { logit_bias: [5] }, "logit_bias", /at most 1024 token ids/),
  wrong("a bias of a word", { logit_bias: { the: 1 } }, "logit_bias", /token ids/),
  wrong("a bias beyond 100", { logit_bias: { 5: 101 } }, "logit_bias", /-100 to 100/),
  wrong("a bias as a text", { logit_bias: { 5: "1" } }, "logit_bias", /-100 to 100/),
  wrong(
    "1,025 biases",
    { logit_bias: Object.fromEntries(Array.from({ length: 1_025 }, (_, id) => [id, 1])) },
    "logit_bias",
    /at most 1024/,
  ),
  wrong("a bias of no token", { logit_bias: { 14: 1 } }, "logit_bias", /Token id 14 .* vocabulary of 14/),
  wrong("a seed with a fraction", { seed: 0.1 }, "seed", /integer/),
  wrong("a seed beyond integers", { seed: 2 ** 60 }, "seed", /53 bits/),
  wrong("n 0", { n: 0 }, "n", /1 to 1024/),
  wrong("n 1025", { n: 1_025 }, "n", /1 to 1024/),
  wrong("five stop texts", { stop: ["a", "b", "c", "d", "e"] }, "stop", /at most 4/),
  wrong("an empty stop text", { stop: [""] }, "stop", /1 to 1000/),
  wrong("stop as a number", { stop: 1 }, "stop", /a text/),
  wrong("stream as a text", { stream: "yes" }, "stream", /true or false/),
  wrong("stream_options as a text", { stream_options: "usage" }, "stream_options", /include_usage/),
  wrong("an unknown option of ours", { skein: { magic: true } }, "skein.magic", /allow_other_models/),
  unsupported("tools", { tools: [{ type: "function", function: { name: "f" } }] }, "tools"),
  wrong("tool_choice without tools", { tool_choice: "required" }, "tool_choice", /no 'tools'/),
  unsupported("functions", { functions: [{ name: "f" }] }, "functions"),
  unsupported("response_format", { response_format: { type: "json_object" } }, "response_format"),
  unsupported("logprobs", { logprobs: true }, "logprobs"),
  wrong("alternatives to nothing", { top_logprobs: 3 }, "top_logprobs", /needs 'logprobs'/),
  wrong("too many alternatives", { logprobs: true, top_logprobs: 21 }, "top_logprobs", /from 0 to 20/),
  wrong("log probabilities by number", { logprobs: 3 }, "logprobs", /true or false/),
  ...formats,
  {
    ...unsupported("what others call it", { repetition_penalty: 1.2 }, "repetition_penalty"),
    says: /no parameter of this endpoint/,
  },
  unsupported("audio", { audio: { voice: "x" } }, "audio"),
  unsupported("modalities", { modalities: ["text", "audio"] }, "modalities"),
  wrong(
    "calls of nothing",
    { messages: [{ role: "assistant", tool_calls: [{}] }] },
    "messages.0.tool_calls",
    /list of at most 128 calls/,
  ),
  unsupported("suffix behind token ids", { prompt: [1, 2], suffix: "end" }, "suffix", text),
  unsupported("echo of token ids", { prompt: [1, 2], echo: true }, "echo", text),
  unsupported("echo with log probabilities", { echo: true, logprobs: 1 }, "echo", text),
  wrong("fewer than n to choose from", { prompt: "a", n: 3, best_of: 2 }, "best_of", /at least 'n'/, text),
  wrong("a stream of the best", { prompt: "a", best_of: 2, stream: true }, "best_of", /streamed/, text),
  wrong("best_of as a text", { prompt: "a", best_of: "2" }, "best_of", /from 1 to 20/, text),
  wrong("a suffix as a number", { prompt: "a", suffix: 5 }, "suffix", /a text/, text),
  wrong("echo as a text", { prompt: "a", echo: "yes" }, "echo", /true or false/, text),
  unsupported("logprobs of texts", { logprobs: 0 }, "logprobs", text),
  { name: "no prompt", path: text, body: { model: "naive" }, param: "prompt", says: /is missing/ },
  {
    name: "a prompt as a number",
    path: text,
    body: { model: "naive", prompt: 5 },
    param: "prompt",
    says: /but it is 5/,
  },
  {
    name: "an empty list of prompts",
    path: text,
    body: { model: "naive", prompt: [] },
    param: "prompt",
    says: /an empty list/,
  },
  {
    name: "mixed prompts",
    path: text,
    body: { model: "naive", prompt: ["a", 1] },
    param: "prompt",
    says: /list of token ids/,
  },
  {
    name: "negative token ids",
    path: text,
    body: { model: "naive", prompt: [-1] },
    param: "prompt",
    says: /token ids/,
  },
  {
    name: "too many choices in all",
    path: text,
    body: { model: "naive", prompt: ["a", "b"], n: 600 },
    param: "n",
    says: /1024 choices/,
  },
  {
    name: "a prompt beyond the context",
    body: { ...question, ...user("moo ".repeat(5_000)) },
    code: "context_length_exceeded",
    param: "messages",
    says: /tokens.*512/,
  },
  {
    name: "a plain prompt beyond the context",
    path: text,
    body: { model: "naive", prompt: "moo ".repeat(5_000) },
    code: "context_length_exceeded",
    param: "prompt",
    says: /tokens.*512/,
  },
  {
    name: "a quote for nonsense",
    path: "/v1/quote",
    body: { ...question, n: "two" },
    param: "n",
    says: /"two"/,
  },
  {
    name: "a quote for an unknown model",
    path: "/v1/quote",
    body: { ...question, model: "nope" },
    status: 404,
    code: "model_not_found",
    param: "model",
    says: /Served now/,
  },
];

test("bad requests are answered in OpenAI's shape, with what, why and what to do", async () => {
  const setup = testGateway();
  const session = await setup.add("p1");
  for (const {
    name,
    body,
    path = chat,
    headers,
    status = 400,
    code = "invalid_request",
    param,
    says,
  } of rows) {
    const response = await setup.post(path, body, headers);
    const { error } = (await response.json()) as {
      error: { message: string; type: string; param: string | null; code: string };
    };
    const seen = JSON.stringify(error).slice(0, 300);
    assert.equal(response.status, status, `${name}: ${seen}`);
    assert.equal(error.code, code, `${name}: ${seen}`);
    assert.match(error.message, says, name);
    if (param !== undefined) assert.equal(error.param, param, `${name}: ${seen}`);
    assert.equal(error.type, "invalid_request_error", name);
    assert.match(response.headers.get("x-request-id") ?? "", /^req_[0-9a-f]{24}$/);
  }
  assert.ok(session.requests <= 3, "only what depends on the model needs a provider");
});

test("values that ask for nothing, are accepted", async () => {
  const setup = testGateway();
  await setup.add("p1");
  const neutral = {
    tools: [],
    tool_choice: "auto",
    parallel_tool_calls: true,
    functions: null,
    response_format: { type: "text" },
    logprobs: false,
    top_logprobs: null,
    logit_bias: {},
    modalities: ["text"],
    stop: null,
    seed: null,
    user: "someone",
    metadata: { a: "b" },
    store: true,
    service_tier: "auto",
    max_tokens: Number.MAX_SAFE_INTEGER,
    prediction: { type: "content", content: "a" },
  };
  const answer = await setup.post(chat, { ...question, ...neutral });
  assert.equal(answer.status, 200, await answer.clone().text());
  const typeless = await setup.gateway.fetch(
    new Request(`http://127.0.0.1${chat}`, {
      method: "POST",
      body: new TextEncoder().encode(JSON.stringify(question)),
    }),
  );
  assert.equal(typeless.status, 200);
});

test("seeds of any size are taken, and text parts are joined", async () => {
  const setup = testGateway();
  await setup.add("p1");
  const contentOf = async (change: object): Promise<string> => {
    const body = (await (await setup.post(chat, { ...question, temperature: 1, ...change })).json()) as {
      choices: { message: { content: string } }[];
    };
    return body.choices[0]!.message.content;
  };
  const seeds = [0, 7, -7, 2 ** 32 + 7, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];
  const answers = await Promise.all(seeds.map((seed) => contentOf({ seed })));
  assert.equal(new Set(answers).size, seeds.length, "each seed has its own answer");
  assert.equal(await contentOf({ seed: 7 }), answers[1]);
  const parts = [
    { type: "text", text: "a" },
    { type: "text", text: "b" },
  ];
  assert.equal(await contentOf({ seed: 7, ...user(parts) }), await contentOf({ seed: 7, ...user("a\nb") }));
});

test("paths and methods that do not exist", async () => {
  const setup = testGateway();
  await setup.add("p1", { modelId: "org/model:1", name: "org/model" });
  const url = "http://127.0.0.1";
  const ask = async (method: string, path: string): Promise<[number, string | null, string]> => {
    const response = await setup.gateway.fetch(new Request(url + path, { method }));
    const body = (await response.json()) as { error?: { code: string } };
    return [response.status, response.headers.get("allow"), body.error?.code ?? "ok"];
  };
  assert.deepEqual(await ask("PUT", chat), [405, "GET, POST", "method_not_allowed"]);
  assert.deepEqual(await ask("GET", "/v1/completions"), [405, "POST", "method_not_allowed"]);
  assert.deepEqual(await ask("DELETE", "/v1/models/org/model"), [405, "GET", "method_not_allowed"]);
  assert.deepEqual(await ask("POST", "/metrics"), [405, "GET", "method_not_allowed"]);
  assert.deepEqual(await ask("GET", "/v1/nothing"), [404, null, "not_found"]);
  assert.deepEqual(await ask("GET", "/"), [404, null, "not_found"]);
  for (const id of ["org/model", "org%2Fmodel", "org%2Fmodel%3A1", "org/model:1"]) {
    assert.deepEqual(await ask("GET", `/v1/models/${id}`), [200, null, "ok"], id);
  }
  assert.deepEqual(await ask("GET", "/v1/models/org%2Fother"), [404, null, "model_not_found"]);
  assert.deepEqual(await ask("GET", "/v1/models/%"), [404, null, "model_not_found"]);
});
