/** Answers that were cut are continued: at every place, by every kind of failure, to the byte, and paid for once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { GenerateRequest } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { type FakeSession, question, testGateway, type TestGateway, reoffer } from "../fixture.suite.ts";
import { defaultLimits } from "../options.ts";

const chat = "/v1/chat/completions";
const limits = { ...defaultLimits, queueTimeoutMs: 3_000 };
/** For providers that fall silent; a loaded machine must not look like one. */
const shortLimits = { ...limits, firstTokenTimeoutMs: 200, tokenTimeoutMs: 200 };

interface Answer {
  readonly choices: { message: { content: string }; finish_reason: string }[];
  readonly usage: { completion_tokens: number; prompt_tokens: number; fee: { amount: string } };
  readonly skein: { attempts: number };
}

async function ask(setup: TestGateway, body: object): Promise<Answer> {
  const response = await setup.post(chat, body);
  const answer = (await response.json()) as Answer & { error?: { message: string } };
  assert.equal(response.status, 200, answer.error?.message);
  return answer;
}

type Generate = FakeSession["events"];
type Failure = (generate: Generate, cutAt: number) => Generate;

/** Lets `cutAt` tokens through, then does something else. */
function cut(
  what: (request: GenerateRequest, signal: AbortSignal, position: number) => Promise<unknown> | void,
): Failure {
  return (generate, cutAt) =>
    async function* (request, signal) {
      let position = request.emitted.tokenIds.length;
      for await (const event of generate(request, signal)) {
        if (request.requestId !== "probe" && event.type !== "start" && position >= cutAt) {
          const last = await what(request, signal, position);
          if (last !== undefined) yield last as never;
          return;
        }
        yield event;
        if (event.type === "tokens") position += event.tokenCount;
      }
    };
}

const timings = { queueMs: 0, prefillMs: 0, decodeMs: 0 };
const failures: Record<string, Failure> = {
  "an error": cut(() => {
    throw new SkeinError("engine_failed", "killed");
  }),
  "an end without an end frame": cut(() => undefined),
  "a fault that it puts on the request": cut((_, __, position) => {
    throw new SkeinError(position > 0 ? "invalid_request" : "engine_failed", "not my fault");
  }),
  "an end before the length": cut(async (_, __, position) => ({
    type: "end",
    finishReason: "length",
    promptTokens: 7,
    outputTokens: position,
    timings,
  })),
  silence: cut(
    (_, signal) =>
      new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason as Error)),
      ),
  ),
};

/** Two providers, of which each fails its first answer at a place, and one that does not. */
async function failingNetwork(failure: Failure, cutAt: number): Promise<TestGateway> {
  const setup = testGateway({ limits: failure === failures["silence"] ? shortLimits : limits });
  for (const id of ["p1", "p2"]) {
    const session = await setup.add(id);
    const generate = session.events.bind(session);
    const failing = failure(generate, cutAt);
    session.events = (request, signal) => {
      const isFirst = request.requestId !== "probe" && request.emitted.tokenIds.length === 0;
      return (isFirst ? failing : generate)(request, signal);
    };
  }
  await setup.add("sound");
  return setup;
}

const bodies: Record<string, object> = {
  "characters of several tokens": { ...question, seed: 5, temperature: 1 },
  "a stop sequence across tokens": {
    ...question,
    seed: 5,
    temperature: 1,
    stop: ["flies the front", "ace. 🪿"],
  },
  "a stop sequence that only seems to come": {
    ...question,
    seed: 9,
    temperature: 1,
    stop: ["the goosey", "🪿!"],
  },
  "several choices": { ...question, seed: 2, temperature: 1, n: 3 },
  "a bias": { ...question, seed: 5, temperature: 1, logit_bias: { 0: 20, 3: -100, 4: 9.5 } },
  "several choices with stop sequences": {
    ...question,
    seed: 5,
    temperature: 1,
    n: 3,
    stop: ["ace. 🪿", "another goose"],
  },
  "a length": { ...question, seed: 5, temperature: 1, max_tokens: 17 },
};

for (const [kind, failure] of Object.entries(failures)) {
  test(`cut by ${kind}, at every place`, async () => {
    for (const [name, body] of Object.entries(bodies)) {
      const undisturbed = testGateway({ limits });
      await undisturbed.add("p1");
      const expected = await ask(undisturbed, body);
      // Silence takes its time.
      const step = kind === "silence" ? 11 : 1;
      for (let cutAt = 0; cutAt < expected.usage.completion_tokens; cutAt += step) {
        const answer = await ask(await failingNetwork(failure, cutAt), body);
        assert.deepEqual(answer.choices, expected.choices, `${name}, cut at ${cutAt}`);
        assert.deepEqual(answer.usage, expected.usage, `${name}, cut at ${cutAt}: charged once`);
      }
    }
  });
}

test("an answer outlives any number of providers, as long as it grows", async () => {
  const setup = testGateway({ limits });
  for (let i = 0; i < 12; i++) {
    const session = await setup.add(`p${i}`);
    const generate = session.events.bind(session);
    session.events = (request, signal) => {
      const cutAt = request.emitted.tokenIds.length + 2;
      return failures["an error"]!(generate, cutAt)(request, signal);
    };
  }
  const answer = await ask(setup, { ...question, max_tokens: 20 });
  assert.equal(answer.usage.completion_tokens, 20);
  assert.ok(answer.skein.attempts >= 10, `${answer.skein.attempts} attempts`);
});

test("when its only provider leaves, an answer waits for it to come back", async () => {
  const setup = testGateway({ limits });
  const body = { ...question, seed: 3, temperature: 1 };
  const first = await setup.add("p1");
  const expected = await ask(setup, body);
  const generate = first.events.bind(first);
  first.events = cut(() => first.close("killed"))(generate, 9);
  const asking = ask(setup, body);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await setup.add("p1");
  const answer = await asking;
  assert.deepEqual(answer.choices, expected.choices);
  assert.deepEqual(answer.usage, expected.usage);
  assert.equal(answer.skein.attempts, 2);
});

test("it is continued where it has as much room as it had, unless nobody has", async () => {
  const body = { ...question, max_tokens: 40 };
  const answer = async (contexts: readonly number[]): Promise<Answer> => {
    const setup = testGateway({ limits });
    const failing = await setup.add("long", { answerTokens: null, contextTokensMax: 100 });
    const generate = failing.events.bind(failing);
    const others = Promise.withResolvers<void>();
    failing.events = cut(async () => {
      await others.promise;
      throw new SkeinError("engine_failed", "killed");
    })(generate, 5);
    const asking = ask(setup, body);
    for (const contextTokensMax of contexts) {
      await setup.add(`p${contextTokensMax}`, { answerTokens: null, contextTokensMax });
    }
    others.resolve();
    return asking;
  };
  const full = await answer([30, 31, 100, 32]);
  assert.equal(full.usage.completion_tokens, 40);
  const short = await answer([30]);
  assert.equal(short.usage.completion_tokens, 23);
  assert.equal(short.choices[0]!.finish_reason, "length");
});

test("engine time: neither the silence before a failure nor reading again elsewhere is paid for", async () => {
  const setup = testGateway({ limits: { ...limits, firstTokenTimeoutMs: 1_000, tokenTimeoutMs: 300 } });
  const perSecond = 1_000_000n;
  const price = { inputPerMillionTokens: 0n, outputPerMillionTokens: 0n, perSecond };
  for (const id of ["p1", "p2"]) {
    const session = await setup.add(id, { prefillMs: 150 });
    const offer = session.offer!;
    const models = offer.models.map((model) => ({ ...model, price }));
    Object.defineProperty(session, "offer", { get: () => ({ ...offer, models }) });
    session.changed();
    const generate = session.events.bind(session);
    const failing = failures["silence"]!(generate, 5);
    session.events = (request, signal) =>
      (request.emitted.tokenIds.length === 0 ? failing : generate)(request, signal);
  }
  const { usage, skein } = await ask(setup, question);
  assert.equal(skein.attempts, 2);
  // Two prefills and the silence took 600 ms.
  assert.ok(BigInt(usage.fee.amount) < 150n * 1_000n, usage.fee.amount);
});

test("an upstream without token ids goes on with the text where it can; else a chat is cut with an error", async () => {
  const setup = testGateway({ limits });
  const session = await setup.add("p1");
  reoffer(session, { engine: "openai", resumable: false, continuesText: "completions" });
  const words = "the goose flies at the front, then another takes its place.".split(/(?<= )/);
  let failsAt = 4;
  session.events = async function* ({ prompt, emitted, outputTokensMax }) {
    const text = prompt.kind === "text" ? prompt.text.slice("Q: ".length) + emitted.text : emitted.text;
    const done = words.findIndex((_, i) => words.slice(0, i).join("") === text);
    assert.deepEqual(emitted.tokenIds, []);
    yield { type: "start", promptTokens: 3, cachedTokens: 0 };
    const rest = words.slice(Math.max(0, done)).slice(0, outputTokensMax ?? undefined);
    for (const [position, word] of rest.entries()) {
      if (position === failsAt) {
        failsAt = Number.POSITIVE_INFINITY;
        throw new SkeinError("upstream_failed", "it broke off");
      }
      yield { type: "tokens", position, tokenIds: [], tokenCount: 1, text: word };
    }
    const promptTokens = 3 + Math.max(0, done);
    yield { type: "end", finishReason: "length", promptTokens, outputTokens: rest.length, timings };
  };
  const body = {
    model: "naive",
    prompt: "Q: ",
    max_tokens: 7,
    stream: true,
    stream_options: { include_usage: true },
  };
  const events = await (await setup.post("/v1/completions", body)).text();
  const chunks = [...events.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => JSON.parse(data!));
  const text = chunks.map(({ choices }) => choices[0]?.text ?? "").join("");
  assert.equal(text, words.slice(0, 7).join(""), events);
  assert.deepEqual([chunks.at(-1).usage.prompt_tokens, chunks.at(-1).usage.completion_tokens], [3, 7]);
  failsAt = 4;
  const chatted = await (await setup.post(chat, { ...question, stream: true })).text();
  assert.match(chatted, /"code":"provider_failed"/);
  assert.doesNotMatch(chatted, /\[DONE\]/);
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  reoffer(session, { continuesText: "all" });
  failsAt = 4;
  const streamed = { ...question, max_tokens: 7, stream: true, stream_options: { include_usage: true } };
  const whole = await (await setup.post(chat, streamed)).text();
  const pieces = [...whole.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => JSON.parse(data!));
  assert.equal(
    pieces.map(({ choices }) => choices[0]?.delta.content ?? "").join(""),
    words.slice(0, 7).join(""),
    whole,
  );
  assert.deepEqual([pieces.at(-1).usage.completion_tokens, pieces.at(-1).skein.attempts], [7, 2]);
});
