/** Kept answers of the float tier against what a machine draws. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "../engine/sha256.ts";
import { greedySampling } from "../protocol/generate.ts";
import { askedOf, type RequestWithTerms } from "../receipt/asked.ts";
import type { Part, ReceiptedChoice } from "../receipt/document.ts";
import type { ScoreRequest } from "../engine/port.ts";
import { weighAnswer } from "./weigh-answer.ts";

const modelId = "gguf-sha256:aa";
const price = { inputPerMillionTokens: 1n, outputPerMillionTokens: 1n, perSecond: 0n };
const request: RequestWithTerms = {
  requestId: "0123456789abcdef01234567",
  modelId,
  prompt: { kind: "text", text: "Once" },
  emitted: { tokenIds: [], text: "" },
  sampling: { ...greedySampling, temperature: 0.8, seed: 5, logitBias: [[3, -1]] },
  stop: ["\n"],
  constraint: null,
  logprobs: null,
  outputTokensMax: 50,
  timeoutMs: 1_000,
  terms: { tier: "float", price, contextTokensMax: 100, chargesPrompt: true, previous: null },
};

/** An answer in two parts, the second one unfinished. */
function choiceOf(values: Partial<RequestWithTerms> = {}): ReceiptedChoice {
  const asked = askedOf(sha256, { ...request, ...values });
  const part = { providerId: "p", asked, receipt: null, checkpoint: null, problem: null };
  const parts: Part[] = [
    { ...part, tokenIds: [1, 2], text: "ab" },
    { ...part, tokenIds: [3], text: "c" },
  ];
  return { index: 0, prompt: request.prompt, parts };
}

function engineOf(margins: readonly number[], text = "abc") {
  const asked: ScoreRequest[] = [];
  const model = { modelId } as Parameters<typeof weighAnswer>[0]["model"];
  const generate = (): never => assert.fail("nothing is generated");
  const score = async (given: ScoreRequest) => {
    asked.push(given);
    return { margins, logProbabilities: [], text };
  };
  return { engine: { model, generate, score }, asked };
}

const never = new AbortController().signal;

test("the whole answer is compared as it was asked", async () => {
  const { engine, asked } = engineOf([0, 0, 0.2], "abc and what was held back");
  const found = await weighAnswer(engine, choiceOf(), null, never);
  assert.deepEqual([found.tokens, found.off, found.marginMax, found.problem], [3, 1, 0.2, null]);
  const [{ request: claimed, tokenIds, isEnded }] = asked as [ScoreRequest];
  assert.deepEqual([tokenIds, isEnded], [[1, 2, 3], false]);
  assert.deepEqual([claimed.sampling, claimed.stop], [request.sampling, request.stop]);
});

test("many tokens of another draw are improbable; a few small differences are not", async () => {
  const honest = Array.from({ length: 300 }, (_, i) => (i % 20 === 0 ? 0.3 : 0));
  assert.equal((await weighAnswer(engineOf(honest).engine, choiceOf(), null, never)).problem, null);
  const other = Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? Number.POSITIVE_INFINITY : 0));
  const found = await weighAnswer(engineOf(other).engine, choiceOf(), null, never);
  assert.match(found.problem!, /30 of 60 tokens are not the ones/);
});

test("a text that does not follow from the tokens is found, whatever the tokens", async () => {
  const { problem } = await weighAnswer(engineOf([0, 0, 0], "xyz").engine, choiceOf(), null, never);
  assert.match(problem!, /another text/);
});

test("what cannot be compared is refused", async () => {
  const { engine } = engineOf([0]);
  const refused = (choice: ReceiptedChoice, why: RegExp): Promise<void> =>
    assert.rejects(weighAnswer(engine, choice, null, never), why);
  await refused({ ...choiceOf(), prompt: null }, /too long to be kept/);
  await refused({ ...choiceOf(), parts: [] }, /nobody has answered/);
  await refused(choiceOf({ modelId: "gguf-sha256:bb" }), /it is of gguf-sha256:bb/);
  await refused(choiceOf({ terms: { ...request.terms, tier: "exact" } }), /tier is 'exact'/);
});
