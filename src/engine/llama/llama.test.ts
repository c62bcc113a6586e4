import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { greedySampling, type Sampling } from "../../protocol/generate.ts";
import { ask, code, collect, emittedAfter } from "../asking.suite.ts";
import { describeEngine } from "../engine.suite.ts";
import { openEngine } from "./fixture.suite.ts";

const story = "Tell me a story about a fox.";
const warm: Sampling = { ...greedySampling, temperature: 0.8, topP: 0.95, topK: 40, seed: 7 };
/** Hot enough that byte tokens are drawn, which are parts of characters or not UTF-8 at all. */
const wild: Sampling = { ...greedySampling, temperature: 100, seed: 11 };

let engine: Awaited<ReturnType<typeof openEngine>>;
before(async () => {
  engine = await openEngine();
});
after(() => engine.close());

test("answers a question, with positions without gaps", async () => {
  const answer = await collect(engine, ask("What is 2 + 3?"));
  assert.match(answer.text, /5/);
  assert.equal(answer.end.finishReason, "stop");
  assert.equal(answer.end.outputTokens, answer.tokenIds.length);
  let next = 0;
  for (const { position, tokenIds, tokenCount } of answer.tokens) {
    assert.equal(position, next);
    assert.equal(tokenCount, tokenIds.length);
    next += tokenCount;
  }
  const { queueMs, prefillMs, decodeMs } = answer.end.timings;
  assert.ok(queueMs >= 0 && prefillMs >= 0 && decodeMs >= 0);
});

test("the same seed gives the same answer, another seed another", async () => {
  const first = await collect(engine, ask(story, { sampling: warm }));
  const again = await collect(engine, ask(story, { sampling: warm }));
  const other = await collect(engine, ask(story, { sampling: { ...warm, seed: 8 } }));
  assert.deepEqual(again.tokenIds, first.tokenIds);
  assert.notDeepEqual(other.tokenIds, first.tokenIds);
});

test("alone or in a batch of 8 different requests: the same answers", async () => {
  const requests = Array.from(
    { length: 8 },
    (_, i) => () =>
      ask(i % 2 === 0 ? `What is ${i} + 3?` : story, {
        sampling: { ...warm, seed: i, temperature: i / 4 },
        outputTokensMax: 20 + 5 * i,
      }),
  );
  const alone = [];
  for (const request of requests) alone.push(await collect(engine, request()));
  const together = await Promise.all(requests.map((request) => collect(engine, request())));
  assert.deepEqual(
    together.map(({ text, tokenIds }) => ({ text, tokenIds })),
    alone.map(({ text, tokenIds }) => ({ text, tokenIds })),
  );
});

for (const [kind, sampling] of [
  ["greedy", greedySampling],
  ["sampled", warm],
  ["broken characters", wild],
  ["penalties", { ...warm, frequencyPenalty: 0.5, presencePenalty: 0.3 }],
] as const) {
  test(`an answer cut anywhere goes on without a seam: ${kind}`, async () => {
    const request = { sampling, stop: ["qqq", "\n\n\n"], outputTokensMax: 48 };
    const whole = await collect(engine, ask(story, request));
    await Promise.all(
      Array.from({ length: whole.tokenIds.length + 1 }, async (_, cut) => {
        const emitted = emittedAfter(whole, cut);
        const rest = await collect(engine, ask(story, { ...request, emitted }));
        assert.equal(emitted.text + rest.text, whole.text, `cut at ${cut}`);
        assert.deepEqual([...emitted.tokenIds, ...rest.tokenIds], whole.tokenIds, `cut at ${cut}`);
        assert.equal(rest.end.outputTokens, whole.end.outputTokens);
        assert.equal(rest.end.finishReason, whole.end.finishReason);
        assert.equal(rest.tokens.find(({ tokenIds }) => tokenIds.length > 0)?.position ?? cut, cut);
      }),
    );
  });
}

test("text that was certain but not delivered comes with the continuation", async () => {
  const whole = await collect(engine, ask(story));
  const { tokenIds } = emittedAfter(whole, 12);
  const rest = await collect(engine, ask(story, { emitted: { tokenIds, text: whole.text.slice(0, 5) } }));
  assert.equal(whole.text.slice(0, 5) + rest.text, whole.text);
});

test("an answer that another engine began as text goes on", async () => {
  const whole = await collect(engine, ask(story));
  const text = whole.text.slice(0, whole.text.indexOf(" ", 20));
  const rest = await collect(engine, ask(story, { emitted: { tokenIds: [], text } }));
  assert.equal(text + rest.text, whole.text);
});

test("characters come whole", async () => {
  const answer = await collect(engine, ask(story, { sampling: wild, outputTokensMax: 200 }));
  for (const { text } of answer.tokens) assert.equal(text, text.toWellFormed());
  assert.ok(Buffer.byteLength(answer.text) > answer.text.length, "the test wants some bytes beyond ASCII");
});

test("a stop sequence ends the answer before it, wherever tokens are cut", async () => {
  const { text } = await collect(engine, ask(story));
  for (const from of [3, 10, 17]) {
    const stop = text.slice(from, from + 7);
    const answer = await collect(engine, ask(story, { stop: ["never seen", stop] }));
    assert.equal(answer.text, text.slice(0, text.indexOf(stop)));
    assert.equal(answer.end.finishReason, "stop");
    // A resume that already holds the stop sequence only tells the end.
    const emitted = { tokenIds: answer.tokenIds, text: answer.text };
    const rest = await collect(engine, ask(story, { stop: [stop], emitted }));
    assert.equal(rest.text, "");
    assert.equal(rest.end.finishReason, "stop");
    assert.equal(rest.end.outputTokens, answer.end.outputTokens);
  }
});

test("the next turn finds the last one in the cache", async () => {
  const messages = [{ role: "user" as const, content: "What is the capital of the north? Tell me more." }];
  const first = await collect(engine, ask("", { prompt: { kind: "chat", messages } }));
  const next = [
    ...messages,
    { role: "assistant" as const, content: first.text },
    { role: "user" as const, content: "And then?" },
  ];
  const second = await collect(engine, ask("", { prompt: { kind: "chat", messages: next } }));
  assert.ok(second.start.cachedTokens > first.start.promptTokens, JSON.stringify(second.start));
  assert.ok(second.start.cachedTokens < second.start.promptTokens);
});

test("requests with the same long beginning share it", async () => {
  const content = `${"The quick fox and the lazy dog. ".repeat(12)} What is 4 + 4?`;
  const answers = await Promise.all(Array.from({ length: 4 }, () => collect(engine, ask(content))));
  assert.equal(new Set(answers.map(({ text }) => text)).size, 1);
  const cached = answers.filter(({ start }) => start.cachedTokens > start.promptTokens / 2);
  assert.ok(cached.length >= 3, `${cached.length} of 4 shared`);
});

test("special tokens in a message are text", async () => {
  const plain = { kind: "chat", messages: [{ role: "user", content: "a<|im_end|>b" }] } as const;
  const count = await engine.countPromptTokens(plain, AbortSignal.timeout(10_000));
  const without = await engine.countPromptTokens(
    { kind: "chat", messages: [{ role: "user", content: "ab" }] },
    AbortSignal.timeout(10_000),
  );
  assert.ok(count > without + 2, `${count} against ${without}`);
  const text = await engine.countPromptTokens(
    { kind: "text", text: "<|im_end|>" },
    AbortSignal.timeout(10_000),
  );
  assert.ok(text > 1);
});

test("limits: output tokens, the context's end, prompts beyond it, ids that do not exist", async () => {
  const short = await collect(engine, ask(story, { outputTokensMax: 5 }));
  assert.equal(short.tokenIds.length, 5);
  assert.equal(short.end.finishReason, "length");
  const prompt = { kind: "tokens", tokenIds: Array.from({ length: 500 }, (_, i) => 300 + i) } as const;
  const full = await collect(engine, ask("", { prompt, sampling: wild, outputTokensMax: null }));
  assert.ok(full.end.finishReason === "stop" || full.tokenIds.length === 12);
  const long = ask("", { prompt: { kind: "tokens", tokenIds: Array(600).fill(300) as number[] } });
  await assert.rejects(
    collect(engine, long),
    (error) => code("context_length_exceeded")(error) && /600.*512/.test(String(error)),
  );
  const unknown = ask("", { prompt: { kind: "tokens", tokenIds: [1, 2, 99_999] } });
  await assert.rejects(collect(engine, unknown), code("invalid_request"));
  await assert.rejects(
    collect(engine, ask("", { prompt: { kind: "text", text: "" } })),
    code("invalid_request"),
  );
});

describeEngine("llama", { question: "Tell me a story about a goose.", exact: true }, () =>
  openEngine({ parallel: 4 }),
);
