import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import fc from "fast-check";
import type { ProviderView, QuoteView, FeeView } from "../protocol/gateway-api.ts";
import { SkeinError } from "../util/errors.ts";
import { FakeSession, question, testGateway, type TestGateway } from "./fixture.suite.ts";
import { defaultLimits } from "./options.ts";

function clientOf({ gateway }: TestGateway): OpenAI {
  return new OpenAI({
    baseURL: "http://127.0.0.1:4141/v1",
    apiKey: "none",
    maxRetries: 0,
    fetch: (input, init) => gateway.fetch(new Request(input, init)),
  });
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test("the official client: whole, streamed, usage, models", async () => {
  const setup = testGateway();
  await setup.add("p1");
  const client = clientOf(setup);
  const whole = await client.chat.completions.create({ ...question, seed: 3, temperature: 1 });
  const [choice] = whole.choices;
  assert.match(whole.id, /^chatcmpl-/);
  assert.equal(whole.object, "chat.completion");
  assert.deepEqual(
    [choice!.index, choice!.message.role, choice!.message.refusal, choice!.logprobs],
    [0, "assistant", null, null],
  );
  assert.equal(choice!.finish_reason, "stop");
  assert.equal(whole.usage!.completion_tokens, 24);
  assert.equal(whole.usage!.prompt_tokens, 7);

  const chunks = [];
  const stream = await client.chat.completions.create({
    ...question,
    seed: 3,
    temperature: 1,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) chunks.push(chunk);
  assert.deepEqual(chunks[0]!.choices[0]!.delta, { role: "assistant", content: "", refusal: null });
  assert.equal(
    chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    choice!.message.content,
  );
  assert.equal(chunks.at(-2)!.choices[0]!.finish_reason, "stop");
  assert.deepEqual(chunks.at(-1)!.choices, []);
  assert.equal(chunks.at(-1)!.usage!.total_tokens, 31);
  assert.ok(chunks.slice(0, -1).every((chunk) => chunk.usage === null));
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);

  const text = await client.completions.create({ model: "naive", prompt: ["a", "b"], n: 2, max_tokens: 3 });
  assert.deepEqual(
    text.choices.map(({ index, finish_reason: reason }) => [index, reason]),
    [0, 1, 2, 3].map((index) => [index, "length"]),
  );
  assert.deepEqual(
    (await client.models.list()).data.map(({ id }) => id),
    ["naive"],
  );
  await assert.rejects(client.models.retrieve("nope"), OpenAI.NotFoundError);
});

test("fees: the prompt once however many choices, the quote's bounds, the cloud beside", async () => {
  const setup = testGateway();
  await setup.add("p1");
  const body = { ...question, n: 3, max_tokens: 10 };
  const quote = (await (await setup.post("/v1/quote", body)).json()) as QuoteView;
  assert.deepEqual([quote.input_tokens, quote.output_tokens_max], [7, 30]);
  const answer = (await (await setup.post("/v1/chat/completions", body)).json()) as {
    usage: { fee: FeeView };
  };
  // 7 × 1 + 30 × 2 nanoUSD per million tokens × 10⁶.
  assert.equal(answer.usage.fee.amount, "67");
  assert.equal(answer.usage.fee.cloud!.amount, "670");
  assert.equal(quote.offers[0]!.fee_max.amount, "67");
  assert.equal(quote.offers[0]!.fee_min.amount, "7");
});

test("a provider that fails before the first token is replaced unnoticed, and put aside", async () => {
  const setup = testGateway();
  const bad = await setup.add("bad");
  const good = await setup.add("good", { prefillMs: 150 });
  bad.events = () => {
    bad.requests += 1;
    throw new SkeinError("engine_failed", "crashed");
  };
  for (let i = 0; i < 6; i++) {
    const messages = [{ role: "user", content: `Which goose, ${i}?` }];
    assert.equal((await setup.post("/v1/chat/completions", { ...question, messages })).status, 200);
  }
  assert.equal(good.requests, 6);
  assert.ok(bad.requests <= 2, "it is not asked again and again");
  const { data } = (await (await setup.get("/skein/v1/providers")).json()) as { data: ProviderView[] };
  assert.equal(data.find(({ id }) => id === "bad")!.state, "cooling");
});

test("a provider that dies in the middle of an answer is continued by another, at the same place", async () => {
  const undisturbed = testGateway();
  await undisturbed.add("p1");
  const request = { ...question, seed: 11, temperature: 1 };
  const expected = (await (
    await undisturbed.post("/v1/chat/completions", request)
  ).json()) as OpenAI.ChatCompletion;
  for (let dieAt = 0; dieAt <= 24; dieAt += 3) {
    const setup = testGateway();
    let armed = true;
    const onToken = (_: unknown, position: number): void => {
      if (!armed || position !== dieAt) return;
      armed = false;
      throw new SkeinError("engine_failed", "killed");
    };
    await setup.add("p1", {
      onToken: (r, position) => (r.requestId === "probe" ? undefined : onToken(r, position)),
    });
    await setup.add("p2", {
      onToken: (r, position) => (r.requestId === "probe" ? undefined : onToken(r, position)),
    });
    const answer = (await (
      await setup.post("/v1/chat/completions", request)
    ).json()) as OpenAI.ChatCompletion & {
      usage: { fee: FeeView };
      skein: { attempts: number };
    };
    assert.equal(
      answer.choices[0]!.message.content,
      expected.choices[0]!.message.content,
      `died at ${dieAt}`,
    );
    assert.equal(answer.usage.completion_tokens, 24);
    assert.equal(answer.usage.fee.amount, "55", "nothing is charged twice");
    assert.equal(answer.skein.attempts, dieAt < 24 ? 2 : 1);
  }
});

test("when nobody can continue, a stream ends with an error and without [DONE]", async () => {
  const setup = testGateway();
  const onToken = (r: { requestId: string }, position: number): void => {
    if (r.requestId !== "probe" && position === 5)
      throw new SkeinError("engine_failed", "always at this place");
  };
  await setup.add("p1", { onToken });
  const text = await (await setup.post("/v1/chat/completions", { ...question, stream: true })).text();
  assert.match(text, /"error"/);
  assert.doesNotMatch(text, /\[DONE\]/);
});

test("stalls are cut: no first token, no next token, the whole request", async () => {
  for (const [limits, position, code] of [
    [{ firstTokenTimeoutMs: 100 }, 0, "provider_stalled"],
    [{ tokenTimeoutMs: 100, firstTokenTimeoutMs: 200 }, 4, "provider_stalled"],
    [{ requestTimeoutMs: 100 }, 4, "deadline_exceeded"],
  ] as const) {
    const setup = testGateway({ limits: { ...defaultLimits, queueTimeoutMs: 100, ...limits } });
    const hang = new Promise<void>(() => undefined);
    await setup.add("p1", {
      onToken: (r, at) => (r.requestId !== "probe" && at === position ? hang : undefined),
    });
    const response = await setup.post("/v1/chat/completions", question);
    const { error } = (await response.json()) as { error: { code: string } };
    // With one provider, the retry finds it put aside.
    assert.ok([code, "no_provider", "overloaded"].includes(error.code), error.code);
    assert.ok(response.status >= 500 || response.status === 429, String(response.status));
  }
});

test("full providers make a request wait, then 429 with retry-after; nobody there is 503; never known is 404", async () => {
  const setup = testGateway();
  const hang = new Promise<void>(() => undefined);
  const full = await setup.add("p1", {
    parallelMax: 1,
    queueLengthMax: 0,
    onToken: (r) => (r.requestId === "probe" ? undefined : hang),
  });
  const leaving = new AbortController();
  const stuck = setup.gateway
    .fetch(
      new Request("http://127.0.0.1/v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(question),
        signal: leaving.signal,
      }),
    )
    .catch(() => undefined);
  await pause(20);
  const busy = await setup.post("/v1/chat/completions", question);
  assert.equal(busy.status, 429);
  assert.ok(busy.headers.has("retry-after"));
  leaving.abort();
  await stuck;
  full.close("unplugged");
  assert.equal((await setup.post("/v1/chat/completions", question)).status, 503);
  const unknown = await setup.post("/v1/chat/completions", { ...question, model: "nope" });
  assert.equal(unknown.status, 404);
});

test("a client that leaves frees the slot at once", async () => {
  const setup = testGateway();
  const session = await setup.add("p1", { msPerToken: 20, answerTokens: 400 });
  const response = await setup.post("/v1/chat/completions", { ...question, stream: true });
  const reader = response.body!.getReader();
  await reader.read();
  assert.equal(session.engine.load().active, 1);
  await reader.cancel();
  await pause(40);
  assert.equal(session.engine.load().active, 0);
});

test("a client that does not read stops the engine, and gets everything when it reads on", async () => {
  const setup = testGateway();
  let generated = 0;
  await setup.add("p1", { contextTokensMax: 100_000, answerTokens: 20_000, onToken: () => void generated++ });
  const response = await setup.post("/v1/chat/completions", { ...question, stream: true });
  await pause(200);
  const before = generated;
  assert.ok(before < 2_000, `${before} tokens were generated for nobody`);
  const text = await response.text();
  assert.ok(text.endsWith("data: [DONE]\n\n"));
  assert.ok(generated >= 20_000);
});

test("one name, two identities: the one with more providers; the other by its hash; no mixing unless allowed", async () => {
  const setup = testGateway();
  await setup.add("a", { modelId: "gguf-sha256:aaaa11" });
  await setup.add("b1", { modelId: "gguf-sha256:bbbb22" });
  const b2 = await setup.add("b2", { modelId: "gguf-sha256:bbbb22" });
  const served = async (model: string, more: object = {}): Promise<string> => {
    const body = (await (
      await setup.post("/v1/chat/completions", { ...question, model, ...more })
    ).json()) as {
      skein?: { model_id: string };
      error?: { code: string };
    };
    return body.skein?.model_id ?? body.error!.code;
  };
  assert.equal(await served("naive"), "gguf-sha256:bbbb22");
  assert.equal(await served("naive@aaaa"), "gguf-sha256:aaaa11");
  assert.equal(await served("gguf-sha256:aaaa11"), "gguf-sha256:aaaa11");
  assert.equal(await served("naive@cccc"), "model_not_found");
  b2.close("gone");
  const models = (await (await setup.get("/v1/models")).json()) as {
    data: { skein: { model_ids: string[] } }[];
  };
  assert.deepEqual(models.data[0]!.skein.model_ids, ["gguf-sha256:aaaa11", "gguf-sha256:bbbb22"]);
});

test("who may ask: hosts, origins, API keys", async () => {
  const open = testGateway();
  const status = async (
    setup: TestGateway,
    url: string,
    headers: Record<string, string> = {},
  ): Promise<number> => (await setup.gateway.fetch(new Request(url, { headers }))).status;
  assert.equal(await status(open, "http://localhost:4141/v1/models"), 200);
  assert.equal(await status(open, "http://[::1]:4141/v1/models"), 200);
  assert.equal(await status(open, "http://rebound.example:4141/v1/models"), 403);
  assert.equal(
    await status(open, "http://127.0.0.1:4141/v1/models", { origin: "https://evil.example" }),
    403,
  );
  assert.equal(await status(open, "http://127.0.0.1:4141/v1/models", { origin: "null" }), 403);
  assert.equal(
    await status(open, "http://127.0.0.1:4141/v1/models", { origin: "http://127.0.0.1:4141" }),
    200,
  );

  const cors = testGateway({ corsOrigins: ["https://chat.example"] });
  const preflight = await cors.gateway.fetch(
    new Request("http://127.0.0.1:4141/v1/chat/completions", {
      method: "OPTIONS",
      headers: {
        origin: "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
      },
    }),
  );
  assert.equal(preflight.headers.get("access-control-allow-origin"), "https://chat.example");

  const keyed = testGateway({ apiKeys: ["sk-one"], allowedHosts: null });
  assert.equal(await status(keyed, "http://gateway.example/v1/models"), 401);
  assert.equal(
    await status(keyed, "http://gateway.example/v1/models", { authorization: "Bearer sk-two" }),
    401,
  );
  assert.equal(
    await status(keyed, "http://gateway.example/v1/models", { authorization: "Bearer sk-one" }),
    200,
  );
  assert.equal(await status(keyed, "http://gateway.example/metrics"), 401);
  assert.equal(await status(keyed, "http://gateway.example/healthz"), 200);
  assert.equal(await status(keyed, "http://gateway.example/skein/v1/gateway"), 200);

  const joined = testGateway({ apiKeys: ["sk-one"], joinToken: "join-one", allowedHosts: null });
  const token = { authorization: "Bearer join-one" };
  assert.equal(await status(joined, "http://gateway.example/skein/v1/providers", token), 200);
  assert.equal(await status(joined, "http://gateway.example/skein/v1/providers"), 401);
  for (const path of ["/v1/models", "/metrics", "/skein/v1/providers/p1", "/skein/v1/audits"]) {
    assert.equal(await status(joined, `http://gateway.example${path}`, token), 401, path);
  }
});

test("metrics count requests, tokens and fees, and never hold what clients send", async () => {
  const setup = testGateway();
  await setup.add("p1");
  await setup.post("/v1/chat/completions", question);
  await setup.post("/v1/chat/completions", { ...question, model: "secret-name" });
  const text = await (await setup.get("/metrics")).text();
  assert.match(
    text,
    /gen_ai_client_operation_duration_seconds_count\{[^}]*gen_ai_request_model="naive"[^}]*\} 1/,
  );
  assert.match(text, /gen_ai_client_token_usage_sum\{[^}]*gen_ai_token_type="output"[^}]*\} 24/);
  assert.match(text, /skein_fees_nanousd_total\{[^}]*\} 55/);
  assert.match(text, /skein_providers 1/);
  assert.doesNotMatch(text, /secret-name|goose/);
});

test("whatever JSON is sent, the answer is a completion or an error in OpenAI's shape, never a 500", async () => {
  const setup = testGateway();
  await setup.add("p1", { contextTokensMax: 64 });
  const field = fc.oneof(fc.jsonValue(), fc.constantFrom("naive", 1, -1, 0, 1e300, true, null, [], {}));
  const body = fc.record(
    {
      model: fc.oneof(fc.constant("naive"), field),
      messages: fc.oneof(
        fc.constant(question.messages),
        fc.array(fc.record({ role: fc.constant("user"), content: field })),
        field,
      ),
      prompt: field,
      max_tokens: field,
      temperature: field,
      top_p: field,
      n: fc.oneof(fc.integer({ min: 1, max: 3 }), field),
      stop: field,
      seed: field,
      tools: field,
      stream_options: field,
    },
    { requiredKeys: [] },
  );
  await fc.assert(
    fc.asyncProperty(
      body,
      fc.constantFrom("/v1/chat/completions", "/v1/completions", "/v1/quote"),
      async (given, path) => {
        const response = await setup.post(path, given);
        const answer = (await response.json()) as {
          error?: { message: unknown; type: unknown; code: unknown };
        };
        assert.ok(
          response.status === 200 || (response.status >= 400 && response.status < 500),
          `${response.status} ${JSON.stringify(answer)}`,
        );
        if (response.status !== 200) {
          assert.equal(typeof answer.error!.message, "string");
          assert.equal(typeof answer.error!.type, "string");
          assert.equal(typeof answer.error!.code, "string");
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("a second session of the same provider replaces the first", async () => {
  const setup = testGateway();
  const first = await setup.add("p1");
  const second = new FakeSession("p1", first.engine);
  setup.gateway.addSession(second);
  assert.equal(first.closed, true);
  await pause(20);
  assert.equal((await setup.post("/v1/chat/completions", question)).status, 200);
});
