import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { text } from "node:stream/consumers";
import { vectorValues } from "../protocol/embed.ts";
import { type Clock, ManualClock, systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { silentLogger } from "../util/log.ts";
import { answerOf, describeEngine, requestOf } from "./engine.suite.ts";
import { createNaiveEngine, naiveDefaults } from "./naive.ts";
import { createOpenAiEngine, type OpenAiEngineOptions } from "./openai.ts";

/** A real HTTP server that speaks the OpenAI API on top of the naive engine, and misbehaves on request. */
const naive = createNaiveEngine({ clock: systemClock }, { ...naiveDefaults, parallelMax: 64, msPerToken: 1 });
let server: Server;
let base = "";

before(async () => {
  server = createServer((request, response) => {
    const path = request.url ?? "";
    if (path === "/v1/models")
      response.end(JSON.stringify({ object: "list", data: [{ id: "one" }, { id: "two" }] }));
    else if (path === "/single/models") response.end(JSON.stringify({ data: [{ id: "only" }] }));
    else if (path === "/html/models") response.end("<html>hello</html>");
    else if (path.startsWith("/key/")) response.writeHead(401).end("{}");
    else if (path === "/v1/embeddings") void text(request).then((body) => embed(JSON.parse(body), response));
    else void text(request).then((body) => complete(JSON.parse(body) as Asked, response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
});

interface Asked {
  model: string;
  messages: { role: "user"; content: string }[];
  max_tokens?: number;
  stop?: string[];
}

async function embed(
  asked: { input: string[]; dimensions?: number },
  response: ServerResponse,
): Promise<void> {
  const inputs = asked.input.map((given) => ({ kind: "text", text: given }) as const);
  const request = {
    requestId: "up",
    modelId: "up",
    inputs,
    dimensions: asked.dimensions ?? null,
    timeoutMs: 9e3,
  };
  try {
    const { vectors, promptTokens } = await naive.embed!(request, new AbortController().signal);
    const data = vectors.map((vector, index) => ({ index, embedding: [...vectorValues(vector)] }));
    response.end(
      JSON.stringify({ object: "list", data: data.toReversed(), usage: { prompt_tokens: promptTokens } }),
    );
  } catch (error) {
    response.writeHead(400).end(JSON.stringify({ error: { message: String(error) } }));
  }
}

async function complete(asked: Asked, response: ServerResponse): Promise<void> {
  if (asked.model === "two" && asked.messages[0]!.content === "busy") {
    response.writeHead(429).end(JSON.stringify({ error: { message: "slow down" } }));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (value: object): void => void response.write(`data: ${JSON.stringify(value)}\n\n`);
  const request = requestOf(asked.messages[0]!.content, {
    outputTokensMax: asked.max_tokens ?? null,
    stop: asked.stop ?? [],
  });
  for await (const event of naive.generate(request, new AbortController().signal)) {
    if (response.closed) return;
    if (event.type === "tokens")
      send({ choices: [{ index: 0, delta: { content: event.text }, finish_reason: null }] });
    if (asked.messages[0]!.content === "break" && event.type === "tokens" && event.position === 5) {
      response.end();
      return;
    }
    if (event.type === "end") {
      const usage = { prompt_tokens: 5, completion_tokens: event.outputTokens };
      send({ choices: [{ index: 0, delta: {}, finish_reason: event.finishReason }] });
      send({ choices: [], usage });
    }
  }
  response.end("data: [DONE]\n\n");
}

function open(values: Partial<OpenAiEngineOptions> = {}, clock: Clock = systemClock) {
  return createOpenAiEngine(
    { clock, log: silentLogger, fetch },
    {
      url: `${base}/v1`,
      upstreamModel: "one",
      apiKey: null,
      contextTokens: null,
      parallel: 4,
      providerId: "p",
      ...values,
    },
  );
}

const code = (expected: string) => (error: unknown) => error instanceof SkeinError && error.code === expected;

describeEngine("openai", { question: "Which goose flies at the front?", exact: false }, () => open());

test("an upstream's only model is taken, of several one must be named", async () => {
  const engine = await open({ url: `${base}/single/`, upstreamModel: null });
  assert.equal(engine.model.name, "only");
  await engine.close();
  await assert.rejects(
    open({ upstreamModel: null }),
    (error) =>
      error instanceof SkeinError && /one, two/.test(error.message) && /--upstream-model/.test(error.text),
  );
  await assert.rejects(open({ upstreamModel: "three" }), code("invalid_config"));
});

test("no two providers' upstreams are considered equal", async () => {
  const engines = await Promise.all([open(), open({ providerId: "q" }), open({ upstreamModel: "two" })]);
  assert.equal(new Set(engines.map((engine) => engine.model.modelId)).size, 3);
  await Promise.all(engines.map((engine) => engine.close()));
});

test("what is no OpenAI-compatible server is named as such", async () => {
  await assert.rejects(open({ url: "http://127.0.0.1:9/v1" }), code("upstream_failed"));
  await assert.rejects(open({ url: `${base}/html` }), code("upstream_failed"));
  await assert.rejects(open({ url: `${base}/key` }), /refused the API key/);
  await assert.rejects(open({ url: "ftp://x" }), code("invalid_config"));
});

test("one that may be away begins without its upstream, and is there once that answers", async () => {
  const late = createServer((_, response) => void response.end(JSON.stringify({ data: [{ id: "one" }] })));
  late.listen(0, "127.0.0.1");
  await once(late, "listening");
  const { port } = late.address() as AddressInfo;
  late.close();
  await once(late, "close");
  const clock = new ManualClock();
  const url = `http://127.0.0.1:${port}/v1`;
  await assert.rejects(open({ url }), code("upstream_failed"));
  const engine = await open({ url, mayBeAway: true }, clock);
  assert.equal(engine.status().state, "restarting");
  late.listen(port, "127.0.0.1");
  await once(late, "listening");
  const answers = new Promise((resolve) => engine.onStatus(resolve));
  clock.advance(5_000);
  assert.deepEqual(await answers, { state: "ready" });
  await engine.close();
  late.closeAllConnections();
  late.close();
  // What is not served at all is no matter of time.
  await assert.rejects(open({ upstreamModel: "three", mayBeAway: true }), code("invalid_config"));
});

test("usage comes from the upstream, a busy one is overloaded, a broken answer never ends cleanly", async () => {
  const engine = await open({ upstreamModel: "two" });
  assert.equal((await answerOf(engine, requestOf("hello"))).promptTokens, 5);
  await assert.rejects(answerOf(engine, requestOf("busy")), code("overloaded"));
  await assert.rejects(answerOf(engine, requestOf("break")), code("upstream_failed"));
  const continued = requestOf("hello", { emitted: { tokenIds: [1], text: "x" } });
  await assert.rejects(answerOf(engine, continued), /cannot continue/);
  await engine.close();
});
