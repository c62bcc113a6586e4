/** Upstreams that misbehave, each a real HTTP server. */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import { text } from "node:stream/consumers";
import type { GenerateEvent, GenerateRequest } from "../protocol/generate.ts";
import { readAnswer } from "../tools/answer-reader.ts";
import { systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { silentLogger } from "../util/log.ts";
import { answerOf, requestOf } from "./engine.suite.ts";
import type { AnswerLimits } from "./openai-answer.ts";
import { createOpenAiEngine } from "./openai.ts";
import type { Engine } from "./port.ts";

type Body = Record<string, unknown>;

let server: Server;
let url = "";
let complete: (body: Body, response: ServerResponse) => void;
/** Bodies of the requests of a test. */
let asked: Body[] = [];
/** Resolves when the connection of the last completion is closed. */
let closed: Promise<void>;

before(async () => {
  server = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
});
beforeEach(() => (asked = []));
after(() => {
  server.closeAllConnections();
  server.close();
});

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.url === "/v1/models") {
    response.end('{"data": [{"id": "m"}]}');
    return;
  }
  closed = new Promise((resolve) => response.on("close", resolve));
  const body = JSON.parse(await text(request)) as Body;
  asked.push(body);
  complete(body, response);
}

const piece = (content: string) => ({ choices: [{ index: 0, delta: { content } }] });
const finish = (reason = "stop") => ({ choices: [{ index: 0, delta: {}, finish_reason: reason }] });
const usage = (output: number) => ({ choices: [], usage: { prompt_tokens: 5, completion_tokens: output } });

function begin(response: ServerResponse, ...events: unknown[]): ServerResponse {
  if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
  for (const event of events)
    response.write(`data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`);
  return response;
}

/** Lets the upstream send these events and end. */
function streamOf(...events: unknown[]): void {
  complete = (_, response) => begin(response, ...events).end();
}

/** Lets the upstream send a word every millisecond, whatever was asked, until it is left. */
function speakWithoutEnd(): void {
  complete = (_, response) => {
    const timer = setInterval(() => begin(response, piece("moo ")), 1);
    response.on("close", () => clearInterval(timer));
  };
}

async function withEngine(
  limits: Partial<AnswerLimits>,
  use: (engine: Engine) => Promise<void>,
): Promise<void> {
  const engine = await createOpenAiEngine(
    { clock: systemClock, log: silentLogger, fetch },
    { url, upstreamModel: "m", apiKey: null, contextTokens: null, parallel: 2, providerId: "p", limits },
  );
  try {
    await use(engine);
    assert.deepEqual(engine.load(), { active: 0, queued: 0 });
  } finally {
    await engine.close();
  }
}

const failed = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof SkeinError && error.code === code && pattern.test(error.text);

async function fails(code: string, pattern: RegExp, limits: Partial<AnswerLimits> = {}): Promise<void> {
  await withEngine(limits, (engine) =>
    assert.rejects(answerOf(engine, requestOf("hi")), failed(code, pattern)),
  );
}

test("an upstream that never answers, or answers without a token, is left", async () => {
  complete = () => undefined;
  await fails("upstream_failed", /sent nothing for 0\.05 seconds/, { firstTokenTimeoutMs: 50 });
  await closed;
  complete = (_, response) => void begin(response, piece(""));
  await fails("upstream_failed", /sent nothing for 0\.05 seconds/, { firstTokenTimeoutMs: 50 });
  await closed;
});

test("a bias goes along, and no other request knows the parameter", async () => {
  streamOf(piece("a"), finish(), usage(1), "[DONE]");
  await withEngine({}, async (engine) => {
    const { sampling } = requestOf("hi");
    await answerOf(engine, requestOf("hi", { sampling: { ...sampling, logitBias: [[7, -1.5]] } }));
    await answerOf(engine, requestOf("hi"));
  });
  assert.deepEqual(asked[0]?.["logit_bias"], { 7: -1.5 });
  assert.equal(Object.hasOwn(asked[1]!, "logit_bias"), false);
});

test("an upstream that falls silent is left", async () => {
  complete = (_, response) => void begin(response, piece("Moo"));
  await fails("upstream_failed", /sent nothing for 0\.05 seconds/, { tokenTimeoutMs: 50 });
  await closed;
});

test("a slow reader is not the upstream's silence", async () => {
  streamOf(piece("a"), piece("b"), finish(), usage(2), "[DONE]");
  await withEngine({ firstTokenTimeoutMs: 500, tokenTimeoutMs: 30, usageTimeoutMs: 30 }, async (engine) => {
    const events: GenerateEvent[] = [];
    for await (const event of engine.generate(requestOf("hi"), new AbortController().signal)) {
      events.push(event);
      await new Promise((resolve) => setTimeout(resolve, 60));
    }
    assert.equal(events.at(-1)?.type, "end");
  });
});

test("after finish_reason nothing that is missing spoils the answer", async () => {
  const spoken = [piece("Mo"), piece("o"), finish()];
  const endings: ((response: ServerResponse) => void)[] = [
    (response) => void begin(response, ...spoken),
    (response) => void begin(response, ...spoken).end(),
    (response) => void begin(response, ...spoken, "{").end(),
    (response) => begin(response, ...spoken).write("", () => setTimeout(() => response.destroy(), 20)),
  ];
  for (const ending of endings) {
    complete = (_, response) => ending(response);
    await withEngine({ usageTimeoutMs: 50 }, async (engine) => {
      const answer = await answerOf(engine, requestOf("hi"));
      assert.equal(answer.text, "Moo");
      assert.equal(answer.finishReason, "stop");
      assert.equal(answer.outputTokens, 2);
    });
    await closed;
  }
});

test("an event or an answer without end is not kept in memory", async () => {
  complete = (_, response) => void begin(response).write(`data: ${"x".repeat(5_000)}`);
  await fails("upstream_failed", /broke off/, { eventCharsMax: 1_000 });
  await closed;
  complete = (_, response) => void begin(response).write("data: x\n".repeat(1_000));
  await fails("upstream_failed", /broke off/, { eventCharsMax: 1_000 });
  await closed;
  speakWithoutEnd();
  await withEngine({ answerCharsMax: 2_000 }, (engine) =>
    assert.rejects(
      answerOf(engine, requestOf("hi", { outputTokensMax: null })),
      failed("upstream_failed", /has no end/),
    ),
  );
  await closed;
});

test("an upstream that ignores stop is cut off there", async () => {
  complete = (_, response) => {
    begin(response, piece("one t"), piece("wo three"));
    const timer = setInterval(() => begin(response, piece("moo ")), 1);
    response.on("close", () => clearInterval(timer));
  };
  await withEngine({}, async (engine) => {
    const answer = await answerOf(engine, requestOf("hi", { stop: ["two"] }));
    assert.equal(answer.text, "one ");
    assert.equal(answer.finishReason, "stop");
  });
  await closed;
});

test("an upstream that ignores max_tokens is cut off soon after", async () => {
  speakWithoutEnd();
  await withEngine({}, async (engine) => {
    const answer = await answerOf(engine, requestOf("hi", { outputTokensMax: 4, stop: ["moo moo!"] }));
    assert.match(answer.text, /^(moo ){4,16}$/);
    assert.equal(answer.finishReason, "length");
    assert.equal(answer.outputTokens, 4);
  });
  await closed;
});

test("an answer without finish_reason never ends cleanly", async () => {
  streamOf(piece("Moo"));
  await fails("upstream_failed", /ended too early/);
  streamOf(piece("Moo"), "[DONE]");
  await fails("upstream_failed", /ended too early/);
  complete = (_, response) => response.end(JSON.stringify({ choices: [{ message: { content: "Moo" } }] }));
  await fails("upstream_failed", /ended too early.*must stream/s);
  complete = (_, response) =>
    begin(response, piece("Moo")).write("", () => setTimeout(() => response.destroy(), 20));
  await fails("upstream_failed", /broke off/);
});

test("an error inside the stream is passed on in words", async () => {
  streamOf(piece("Moo"), { error: { message: "The GPU fell asleep.", code: 500 } });
  await fails("upstream_failed", /failed: The GPU fell asleep\.$/);
  streamOf({ error: "out of memory" });
  await fails("upstream_failed", /failed: out of memory$/);
  streamOf({ error: { detail: "y".repeat(10_000) } });
  await fails("upstream_failed", /failed: \{"detail":"y{300,500}$/);
});

test("garbage in the stream is refused", async () => {
  for (const garbage of ["{", "null", "3", '{"choices": [{"delta": {"content": 3}}]}', '{"choices": 1}']) {
    streamOf(piece("Moo"), garbage);
    await fails("upstream_failed", /not JSON|malformed/);
  }
});

test("thoughts stand in tags before the answer, where there is room for them, and are tokens; unknown fields are nothing", async () => {
  const thought = { choices: [{ index: 0, delta: { reasoning_content: "hm", extra: 1 } }], x: {} };
  streamOf({ hello: "world" }, thought, piece("Moo"), finish("length"), "[DONE]");
  await withEngine({}, async (engine) => {
    const answer = await answerOf(engine, requestOf("hi"));
    assert.equal(answer.text, "<think>\nhm\n</think>\n\nMoo");
    assert.equal(answer.outputTokens, 2);
    assert.equal(answer.finishReason, "length");
    const formed = { constraint: { grammar: "x", responseFormat: '{"type": "json_object"}' } };
    assert.equal((await answerOf(engine, requestOf("hi", formed))).text, "Moo");
  });
});

test("refusals keep their meaning, and their size", async () => {
  const refuse = (status: number, body: string): void => {
    complete = (_, response) => response.writeHead(status).end(body);
  };
  refuse(400, '{"error": {"message": "Too much.", "code": "context_length_exceeded"}}');
  await fails("context_length_exceeded", /Too much\./);
  refuse(422, '{"error": "no such thing"}');
  await fails("invalid_request", /no such thing/);
  refuse(503, "");
  await fails("overloaded", /no reason given/);
  refuse(500, "z".repeat(1_000_000));
  await fails("upstream_failed", /answered 500: z{500}$/);
  refuse(403, "");
  await fails("upstream_failed", /API key.*SKEIN_UPSTREAM_KEY/s);
});

function refuseParameter(response: ServerResponse, param: string): void {
  const error = {
    message: `Unsupported parameter: '${param}' is not supported with this model.`,
    type: "invalid_request_error",
    param,
    code: "unsupported_parameter",
  };
  response.writeHead(400).end(JSON.stringify({ error }));
}

test("an upstream that wants max_completion_tokens is asked with it, from then on at once", async () => {
  complete = (body, response) => {
    if ("max_tokens" in body) refuseParameter(response, "max_tokens");
    else if ("top_p" in body) refuseParameter(response, "top_p");
    else begin(response, piece("Moo"), finish(), "[DONE]").end();
  };
  await withEngine({}, async (engine) => {
    const request = requestOf("hi", { outputTokensMax: 7 });
    const both = await Promise.all([answerOf(engine, request), answerOf(engine, request)]);
    assert.deepEqual(
      both.map((answer) => answer.text),
      ["Moo", "Moo"],
    );
    asked = [];
    await answerOf(engine, request);
    assert.equal(asked.length, 1);
    assert.equal(asked[0]!["max_completion_tokens"], 7);
    assert.ok(!("max_tokens" in asked[0]!) && !("top_p" in asked[0]!));
  });
});

test("a parameter that asks for something is never left out silently", async () => {
  complete = (body, response) => refuseParameter(response, "top_p" in body ? "top_p" : "seed");
  await withEngine({}, async (engine) => {
    const { sampling } = requestOf("hi");
    const picky: GenerateRequest = requestOf("hi", { sampling: { ...sampling, topP: 0.5 } });
    await assert.rejects(answerOf(engine, picky), failed("invalid_request", /'top_p' is not supported/));
    assert.equal(asked.length, 1);
    await assert.rejects(answerOf(engine, requestOf("hi")), failed("invalid_request", /'seed' is not/));
    assert.equal(asked.length, 3);
  });
});

test("aborting, leaving and closing close the upstream's connection", async () => {
  speakWithoutEnd();
  await withEngine({}, async (engine) => {
    const abort = new AbortController();
    await assert.rejects(
      async () => {
        for await (const event of engine.generate(requestOf("hi", { outputTokensMax: null }), abort.signal))
          if (event.type === "tokens") abort.abort();
      },
      failed("cancelled", /cancelled/),
    );
    await closed;
    for await (const event of engine.generate(requestOf("hi"), new AbortController().signal))
      if (event.type === "tokens") break;
    await closed;
    const endless = answerOf(engine, requestOf("hi", { outputTokensMax: null }));
    setTimeout(() => void engine.close(), 20);
    await assert.rejects(endless, failed("engine_unavailable", /closed/));
    await closed;
  });
  // Also before the upstream has answered.
  complete = () => undefined;
  await withEngine({}, async (engine) => {
    await assert.rejects(
      answerOf(engine, requestOf("hi"), AbortSignal.timeout(50)),
      failed("cancelled", /cancelled/),
    );
    await closed;
  });
});

const numbers = "one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve";

/** Counts, and goes on with a beginning that it is given, if it is asked as it wants to be. */
function count(goesOn: (body: Body) => boolean | "refused"): void {
  complete = (body, response) => {
    const last = (body["messages"] as { role: string; content: string }[]).at(-1)!;
    const how = last.role === "assistant" ? goesOn(body) : false;
    if (how === "refused") {
      response.writeHead(400).end('{"error": {"message": "the last message must be the user\'s"}}');
      return;
    }
    const rest = how ? numbers.slice(last.content.length) : numbers;
    begin(response, ...rest.split(/(?= )/).map(piece), finish(), usage(20), "[DONE]").end();
  };
}

const resuming = (): Promise<Engine> =>
  createOpenAiEngine(
    { clock: systemClock, log: silentLogger, fetch },
    {
      url,
      upstreamModel: "m",
      apiKey: null,
      contextTokens: null,
      parallel: 2,
      providerId: "p",
      resumeByText: true,
    },
  );

test("chats go on by their text, however the server wants to be asked for it", async () => {
  const ways: [string, (body: Body) => boolean | "refused"][] = [
    ["the last message is enough", () => true],
    ["with a flag, else it begins anew", (body) => body["continue_final_message"] === true],
    ["with a flag, else it refuses", (body) => body["continue_final_message"] === true || "refused"],
  ];
  for (const [name, goesOn] of ways) {
    count(goesOn);
    const engine = await resuming();
    try {
      assert.equal(engine.model.continuesText, "all", name);
      const emitted = { tokenIds: [], text: "one, two, thr" };
      const { text: rest } = await answerOf(engine, requestOf("count", { emitted }));
      assert.equal(emitted.text + rest, numbers, name);
      const prefilled = requestOf("", {
        emitted,
        prompt: { kind: "chat", messages: [{ role: "assistant", content: "one" }] },
      });
      await assert.rejects(answerOf(engine, prefilled), /cannot continue/);
    } finally {
      await engine.close();
    }
  }
});

test("a server that begins anew, or refuses, is not taken for one that goes on", async () => {
  for (const how of [false, "refused"] as const) {
    count(() => how);
    await assert.rejects(resuming(), (error: unknown) => {
      assert.ok(error instanceof SkeinError && error.code === "invalid_config");
      assert.match(error.hint!, /--resume-by/);
      return true;
    });
  }
  count(() => false);
  await withEngine({}, async (engine) => {
    assert.deepEqual([engine.model.continuesText, engine.model.forwardsPrompts], ["completions", true]);
    const continued = requestOf("count", { emitted: { tokenIds: [], text: "one," } });
    await assert.rejects(answerOf(engine, continued), /cannot continue/);
  });
});

const weather = { name: "weather", description: "Now.", parameters: '{"type": "object"}' };
const callPiece = (index: number, called: object) => ({
  choices: [{ index: 0, delta: { tool_calls: [{ index, id: "x", function: called }] } }],
});

test("functions go along in OpenAI's shape, and calls come back as text that is read as such", async () => {
  streamOf(
    piece("I look. "),
    callPiece(0, { name: "weather", arguments: "" }),
    callPiece(0, { arguments: '{"city": ' }),
    callPiece(0, { arguments: '"Bern"}' }),
    callPiece(1, { name: "weather" }),
    finish("tool_calls"),
    usage(9),
    "[DONE]",
  );
  await withEngine({}, async (engine) => {
    const call = { id: "call_1", name: "weather", arguments: '{"city": "Ulm"}' };
    const { text: said, finishReason } = await answerOf(
      engine,
      requestOf("hi", {
        prompt: {
          kind: "chat",
          messages: [
            { role: "user", content: "hi" },
            { role: "assistant", content: "", toolCalls: [call] },
            { role: "tool", content: "rain", toolCallId: "call_1" },
          ],
          tools: [weather],
        },
        stop: ["Bern"],
        constraint: {
          grammar: 'root ::= ""',
          responseFormat: null,
          toolChoice: '{"tool_choice": "required", "parallel_tool_calls": false}',
        },
      }),
    );
    assert.equal(finishReason, "stop");
    const reading = {
      calls: { format: "hermes", names: new Set(["weather"]), callsMax: 9 },
      thoughts: null,
    } as const;
    assert.deepEqual(readAnswer(reading, said, "stop"), {
      content: "I look.",
      reasoning: "",
      calls: [
        { name: "weather", arguments: '{"city": "Bern"}' },
        { name: "weather", arguments: "{}" },
      ],
    });
  });
  const [body] = asked;
  assert.equal(body!["tool_choice"], "required");
  assert.equal(body!["parallel_tool_calls"], false);
  assert.deepEqual(body!["tools"], [
    { type: "function", function: { name: "weather", description: "Now.", parameters: { type: "object" } } },
  ]);
  assert.deepEqual(body!["messages"], [
    { role: "user", content: "hi" },
    {
      role: "assistant",
      content: "",
      tool_calls: [
        { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city": "Ulm"}' } },
      ],
    },
    { role: "tool", content: "rain", tool_call_id: "call_1" },
  ]);
});

test("a call that the upstream cut stays open, and a piece of no call is nothing", async () => {
  streamOf(
    callPiece(0, { arguments: "x" }),
    callPiece(0, { name: "weather", arguments: '{"a' }),
    finish("length"),
  );
  await withEngine({ usageTimeoutMs: 20 }, async (engine) => {
    const { text: said, finishReason } = await answerOf(engine, requestOf("hi"));
    assert.deepEqual([said, finishReason], ['<tool_call>\n{"name": "weather", "arguments": {"a', "length"]);
  });
  assert.ok(!("tools" in asked[0]!) && !("tool_choice" in asked[0]!));
});
