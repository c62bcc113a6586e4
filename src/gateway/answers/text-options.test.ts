/** What only the older endpoint has: `echo`, `suffix`, `best_of`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { clientOf, failure } from "../client.suite.ts";
import { reoffer, testGateway } from "../fixture.suite.ts";
import { parseTextRequest } from "../requests/parse-request.ts";
import { seededRandom } from "../../util/random.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
import { textCompletion } from "./format.ts";
import type { PlacedLogprob } from "./logprobs.ts";

const model = "naive";

test("echo: each choice begins with its own prompt, streamed or not", async () => {
  const gateway = testGateway();
  await gateway.add("one");
  const client = clientOf(gateway);
  const prompt = ["A goose ", "A fox "];
  const body = { model, prompt, n: 2, seed: 1, max_tokens: 4 };
  const plain = await client.completions.create(body);
  const echoed = await client.completions.create({ ...body, echo: true });
  assert.deepEqual(
    echoed.choices.map(({ text }) => text),
    plain.choices.map(({ text, index }) => prompt[Math.floor(index / 2)]! + text),
  );
  const texts = ["", "", "", ""];
  for await (const { choices } of await client.completions.create({ ...body, echo: true, stream: true }))
    for (const { index, text } of choices) texts[index] += text;
  assert.deepEqual(
    texts,
    echoed.choices.map(({ text }) => text),
  );
});

test("suffix: what stands behind changes the answer, counts, and goes only where the model fills in", async () => {
  const gateway = testGateway();
  const session = await gateway.add("one");
  const client = clientOf(gateway);
  const body = { model, prompt: "def add(a, b):\n", seed: 1, max_tokens: 4 };
  const plain = await client.completions.create(body);
  const filled = await client.completions.create({ ...body, suffix: "\nreturn a + b" });
  assert.notEqual(filled.choices[0]!.text, plain.choices[0]!.text);
  assert.ok(filled.usage!.prompt_tokens > plain.usage!.prompt_tokens);
  assert.deepEqual((await client.completions.create({ ...body, suffix: "" })).choices, plain.choices);
  reoffer(session, { features: [] });
  await assert.rejects(client.completions.create({ ...body, suffix: "x" }), failure(400, "suffix"));
});

test("best_of: the best by mean log probability are shown, all are counted", () => {
  const given = { model, prompt: ["a", "b"], n: 2, best_of: 3 };
  const request = parseTextRequest(given, seededRandom(1));
  assert.equal(request.n, 3);
  assert.equal(request.logprobs, 0);
  assert.deepEqual(request.hints.needs, ["logprobs"]);
  const scored = (logprob: number): PlacedLogprob => ({
    bytes: new Uint8Array([97]),
    logprob,
    top: [],
    textOffset: 0,
  });
  const endOf = (text: string, ...logprobs: number[]): ChoiceEnd => ({
    finishReason: "stop",
    text,
    logprobs: logprobs.map(scored),
    promptTokens: 5,
    cachedTokens: 0,
    outputTokens: logprobs.length,
    slices: [{ providerId: "p", offer: offerOfTest, outputTokens: logprobs.length, durationMs: 0 }],
    receipt: null,
    attempts: 1,
    ttftMs: 1,
    totalMs: 1,
  });
  // Longer ones do not lose for being long.
  const ends = [
    endOf("a worst", -3),
    endOf("a best", -1, -1, -1),
    endOf("a second", -2),
    endOf("b best", -1),
    endOf("b nothing"),
    endOf("b second", -4, -4),
  ];
  const frame = { requestId: "r", createdMs: 0, request, cloudPrice: null };
  const { choices, usage } = textCompletion(frame, ends);
  assert.deepEqual(
    choices.map(({ index, text, logprobs }) => [index, text, logprobs]),
    [
      [0, "a best", null],
      [1, "a second", null],
      [2, "b best", null],
      [3, "b second", null],
    ],
  );
  assert.equal(usage.completion_tokens, 8);
  assert.equal(usage.prompt_tokens, 10);
  const told = parseTextRequest({ ...given, logprobs: 1 }, seededRandom(1));
  assert.deepEqual(
    textCompletion({ ...frame, request: told }, ends).choices[0]!.logprobs?.token_logprobs,
    [-1, -1, -1],
  );
});

const offerOfTest: ChoiceEnd["slices"][number]["offer"] = {
  modelId: "naive:1",
  name: model,
  engine: "naive",
  trustTier: "float",
  contextTokensMax: 100,
  parallelMax: 1,
  resumable: true,
  features: [],
  price: { inputPerMillionTokens: 0n, outputPerMillionTokens: 0n, perSecond: 0n },
};
