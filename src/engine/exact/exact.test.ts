import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type GenerateRequest, greedySampling, type Sampling } from "../../protocol/generate.ts";
import { sha256, toHex } from "../../util/bytes.ts";
import { seededRandom } from "../../util/random.ts";
import { ask, code, collect, emittedAfter } from "../asking.suite.ts";
import { describeEngine } from "../engine.suite.ts";
import { draftSkein, foreignSkein, openEngine } from "./fixture.suite.ts";

const story = "Tell me a story about a fox.";
const warm: Sampling = { ...greedySampling, temperature: 1, seed: 7 };
/** Hot enough that byte tokens are drawn, which are parts of characters or not UTF-8 at all. */
const wild: Sampling = { ...greedySampling, temperature: 100, seed: 11 };
const penalized: Sampling = { ...warm, frequencyPenalty: 0.5, presencePenalty: 0.3 };

let engine: Awaited<ReturnType<typeof openEngine>>;
/** The same model with other limits: what an answer is must not depend on them. */
let other: typeof engine;
before(async () => {
  engine = await openEngine();
  other = await openEngine({ parallel: 2, contextTokens: 300 });
});
after(() => Promise.all([engine.close(), other.close()]));

test("says what it is", async () => {
  assert.equal(engine.kind, "exact");
  assert.match(engine.model.modelId, /^exact-sha256:[0-9a-f]{64}$/);
  assert.equal(engine.model.name, "tiny-exact");
  assert.equal(engine.model.trustTier, "exact");
  assert.equal(engine.model.resumable, true);
  assert.equal(engine.model.contextTokensMax, 512);
  assert.equal(engine.model.parallelMax, 16);
  assert.equal(other.model.contextTokensMax, 300);
  const answer = await collect(engine, ask("What is 2 + 3?"));
  assert.match(answer.text, /5/);
  assert.equal(answer.end.finishReason, "stop");
});

test("an embedding is the same bits on every machine, whatever else is computed", async () => {
  const request = {
    requestId: "e",
    modelId: "m",
    inputs: ["A goose.", "Geese fly south.", "A"].map((text) => ({ kind: "text", text }) as const),
    dimensions: null,
    timeoutMs: 60_000,
  };
  const signal = AbortSignal.timeout(60_000);
  const answering = collect(engine, ask(story));
  const { vectors, promptTokens } = await engine.embed!(request, signal);
  const hashes = await Promise.all(vectors.map(async (vector) => toHex(await sha256(vector)).slice(0, 16)));
  assert.deepEqual(hashes, ["a1a91f620c466ecb", "9fe01ae24614ab2b", "b1839b1e2acd9e74"]);
  assert.ok(promptTokens > 3);
  const again = await other.embed!({ ...request, inputs: request.inputs.slice(1) }, signal);
  assert.deepEqual(again.vectors.map(toHex), vectors.slice(1).map(toHex));
  await answering;
});

for (const [kind, sampling] of [
  ["greedy", greedySampling],
  ["temperature 1", warm],
  ["top-p, top-k and min-p", { ...warm, topP: 0.9, topK: 20, minP: 0.02 }],
  ["broken characters", wild],
  ["penalties", penalized],
] as const) {
  test(`an answer cut anywhere goes on elsewhere, to the byte: ${kind}`, async () => {
    const request = { sampling, stop: ["qqq", "\n\n\n"], outputTokensMax: 48 };
    const whole = await collect(engine, ask(story, request));
    await Promise.all(
      Array.from({ length: whole.tokenIds.length + 1 }, async (_, cut) => {
        const emitted = emittedAfter(whole, cut);
        const rest = await collect(other, ask(story, { ...request, emitted }));
        assert.equal(emitted.text + rest.text, whole.text, `cut at ${cut}`);
        assert.deepEqual([...emitted.tokenIds, ...rest.tokenIds], whole.tokenIds, `cut at ${cut}`);
        assert.equal(rest.end.outputTokens, whole.end.outputTokens);
        assert.equal(rest.end.finishReason, whole.end.finishReason);
      }),
    );
  });
}

test("an answer cut several times is still the same", async () => {
  const request = { sampling: warm, outputTokensMax: 48 };
  const whole = await collect(engine, ask(story, request));
  let emitted = emittedAfter(whole, 0);
  for (let cut = 5; emitted.tokenIds.length < whole.tokenIds.length; cut += 5) {
    const part = await collect(
      other,
      ask(story, { ...request, outputTokensMax: Math.min(cut, 48), emitted }),
    );
    emitted = {
      tokenIds: [...emitted.tokenIds, ...part.tokenIds],
      text: emitted.text + part.text,
    };
  }
  assert.equal(emitted.text, whole.text);
  assert.deepEqual(emitted.tokenIds, whole.tokenIds);
});

/** Requests that differ in everything, from one token to a long prompt. */
function manyRequests(count: number): GenerateRequest[] {
  return Array.from({ length: count }, (_, i) =>
    ask(i % 3 === 0 ? `What is ${i} + 3?` : `${"The fox was here. ".repeat(i)} ${story}`, {
      sampling: { ...(i % 2 === 0 ? warm : penalized), seed: i, temperature: i / 8 },
      outputTokensMax: 1 + 3 * i,
      stop: i % 5 === 0 ? ["the"] : [],
    }),
  );
}

test("many requests at once: each answer is the one it would be alone", async () => {
  const requests = manyRequests(20);
  const together = await Promise.all(requests.map((request) => collect(engine, request)));
  for (const [i, request] of requests.entries()) {
    const alone = await collect(other, request);
    assert.equal(together[i]!.text, alone.text);
    assert.deepEqual(together[i]!.tokenIds, alone.tokenIds);
    assert.equal(together[i]!.end.finishReason, alone.end.finishReason);
  }
});

test("a hundred at a time, all of them decoding and then a long prompt", async () => {
  const wide = await openEngine({ parallel: 100, contextTokens: 128 });
  try {
    const request = (seed: number): GenerateRequest =>
      ask("What is 1 + 1?", { sampling: { ...wild, seed }, outputTokensMax: 60 });
    const long = ask(`${"The fox. ".repeat(20)} What is 1 + 1?`, { outputTokensMax: 5 });
    const asked = Array.from({ length: 120 }, (_, seed) => collect(wide, request(seed)));
    const answers = await Promise.all([...asked, collect(wide, long)]);
    assert.equal(answers[99]!.text, (await collect(engine, request(99))).text);
    assert.equal(answers[120]!.text, (await collect(engine, long)).text);
  } finally {
    await wide.close();
  }
});

test("a storm of cancellations disturbs nobody and leaves nothing behind", async () => {
  const random = seededRandom(1);
  const request = manyRequests(9).at(-1)!;
  const undisturbed = await collect(other, request);
  const storm = Array.from({ length: 300 }, async (_, i) => {
    await sleep(Math.floor(random.next() * 600));
    const abort = new AbortController();
    const asked = collect(engine, { ...request, sampling: { ...warm, seed: i } }, abort.signal);
    const settled = asked.then(
      () => "answered",
      (error: unknown) => (code("cancelled", "overloaded")(error) ? "cancelled" : String(error)),
    );
    await sleep(Math.floor(random.next() * 20));
    abort.abort();
    return settled;
  });
  const disturbed = await Promise.all(
    Array.from({ length: 6 }, async () => {
      await sleep(Math.floor(random.next() * 300));
      return collect(engine, request);
    }),
  );
  for (const { text } of disturbed) assert.equal(text, undisturbed.text);
  const outcomes = new Set(await Promise.all(storm));
  assert.ok([...outcomes].every((outcome) => outcome === "answered" || outcome === "cancelled"));
  assert.deepEqual(engine.load(), { active: 0, queued: 0 });
  assert.equal((await collect(engine, request)).text, undisturbed.text);
});

test("the next turn finds the last one in the cache, and gets the same bits", async () => {
  const messages = [{ role: "user" as const, content: "What is the capital of the north? Tell me more." }];
  const first = await collect(engine, ask("", { prompt: { kind: "chat", messages } }));
  const turn = ask("", {
    prompt: {
      kind: "chat",
      messages: [
        ...messages,
        { role: "assistant", content: first.text },
        { role: "user", content: "And then?" },
      ],
    },
    sampling: warm,
  });
  const second = await collect(engine, turn);
  assert.ok(second.start.cachedTokens > first.start.promptTokens, JSON.stringify(second.start));
  assert.ok(second.start.cachedTokens < second.start.promptTokens);
  assert.equal((await collect(other, turn)).text, second.text);
});

test("an answer that another engine began as text goes on", async () => {
  const whole = await collect(engine, ask(story));
  const text = whole.text.slice(0, whole.text.indexOf(" ", 20));
  const rest = await collect(engine, ask(story, { emitted: { tokenIds: [], text } }));
  assert.equal(text + rest.text, whole.text);
});

test("text that was certain but not delivered comes with the continuation", async () => {
  const whole = await collect(engine, ask(story));
  const { tokenIds } = emittedAfter(whole, 12);
  const rest = await collect(engine, ask(story, { emitted: { tokenIds, text: whole.text.slice(0, 5) } }));
  assert.equal(whole.text.slice(0, 5) + rest.text, whole.text);
});

test("characters come whole", async () => {
  const answer = await collect(engine, ask(story, { sampling: wild, outputTokensMax: 200 }));
  for (const { text } of answer.tokens) assert.equal(text, text.toWellFormed());
  assert.ok(Buffer.byteLength(answer.text) > answer.text.length, "the test wants some bytes beyond ASCII");
});

test("special tokens in a message are text", async () => {
  const signal = AbortSignal.timeout(10_000);
  const count = (content: string): Promise<number> =>
    engine.countPromptTokens({ kind: "chat", messages: [{ role: "user", content }] }, signal);
  assert.ok((await count("a<|im_end|>b")) > (await count("ab")) + 2);
  assert.ok((await engine.countPromptTokens({ kind: "text", text: "<|im_end|>" }, signal)) > 1);
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
  for (const tokenId of [-1, 0.5, 99_999, Number.NaN]) {
    const unknown = ask("", { prompt: { kind: "tokens", tokenIds: [1, 2, tokenId] } });
    await assert.rejects(collect(engine, unknown), code("invalid_request"));
    const emitted = { tokenIds: [tokenId], text: "" };
    await assert.rejects(collect(engine, ask(story, { emitted })), code("invalid_request"));
  }
  await assert.rejects(
    collect(engine, ask("", { prompt: { kind: "text", text: "" } })),
    code("invalid_request"),
  );
});

describeEngine("exact", { question: "Tell me a story about a goose.", exact: true }, () => openEngine());

test("a draft model changes no answer, wherever it is cut; one with another tokenizer is refused", async () => {
  const guessing = await openEngine({ draftPath: await draftSkein() });
  try {
    for (const sampling of [greedySampling, warm, penalized]) {
      const request = ask(story, { sampling, outputTokensMax: 40 });
      const whole = await collect(engine, request);
      const cuts = [0, 1, 7, whole.tokenIds.length - 1];
      await Promise.all(
        cuts.map(async (cut) => {
          const emitted = emittedAfter(whole, cut);
          const rest = await collect(guessing, { ...request, emitted });
          assert.deepEqual([...emitted.tokenIds, ...rest.tokenIds], whole.tokenIds, `cut at ${cut}`);
          assert.equal(rest.end.finishReason, whole.end.finishReason);
        }),
      );
    }
  } finally {
    await guessing.close();
  }
  await assert.rejects(openEngine({ draftPath: await foreignSkein() }), code("unsupported_model"));
});
