/** The official client's types are the reference: what is built here must fit them, or the type check fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type OpenAI from "openai";
import { freePriceSheet } from "../../protocol/price.ts";
import { noHints } from "../../router/hints.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
import { chatChunks, chatCompletion, type Frame, textChunks, textCompletion, usageView } from "./format.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";

const end: ChoiceEnd = {
  finishReason: "stop",
  text: "moo",
  logprobs: null,
  promptTokens: 5,
  cachedTokens: 2,
  outputTokens: 3,
  slices: [
    {
      providerId: "p",
      offer: {
        modelId: "gguf-sha256:0123456789abcdef",
        name: "m",
        engine: "naive",
        trustTier: "float",
        contextTokensMax: 10,
        parallelMax: 1,
        resumable: true,
        features: [],
        price: freePriceSheet,
      },
      outputTokens: 3,
      durationMs: 7,
    },
  ],
  attempts: 1,
  receipt: null,
  ttftMs: 1,
  totalMs: 2,
};

function frameOf(endpoint: "chat" | "text", includeUsage: boolean): Frame {
  const request: Partial<CompletionRequest> = {
    endpoint,
    includeUsage,
    model: 'm"\n',
    n: 1,
    prompts: [],
    hints: noHints,
  };
  return {
    requestId: "r",
    createdMs: 1_700_000_000_123,
    request: request as CompletionRequest,
    cloudPrice: null,
  };
}

test("whole answers fit the official types", () => {
  const usage: OpenAI.CompletionUsage = usageView(frameOf("chat", false), {
    promptTokens: 5,
    cachedTokens: 2,
    outputTokens: 3,
    feeAmount: 0n,
  });
  assert.equal(usage.total_tokens, 8);

  const chat: OpenAI.ChatCompletion = chatCompletion(frameOf("chat", false), [end]);
  assert.deepEqual(chat.choices[0], {
    index: 0,
    message: { role: "assistant", content: "moo", refusal: null },
    logprobs: null,
    finish_reason: "stop",
  });
  assert.equal(chat.created, 1_700_000_000);
  assert.equal(chat.id, "chatcmpl-r");
  assert.equal(chat.system_fingerprint, "fp_0123456789ab");

  const text: OpenAI.Completion = textCompletion(frameOf("text", false), [end]);
  assert.deepEqual(text.choices[0], { index: 0, text: "moo", logprobs: null, finish_reason: "stop" });
});

test("chunks fit the official types; the quick way of writing text says the same as the long one", () => {
  for (const includeUsage of [false, true]) {
    const chunks = chatChunks(frameOf("chat", includeUsage));
    const opening: OpenAI.ChatCompletionChunk = chunks.opening(2);
    const text: OpenAI.ChatCompletionChunk = JSON.parse(
      chunks.text(2, { text: 'a "quoted"\n🪿', logprobs: null }),
    );
    assert.deepEqual(text, {
      ...opening,
      choices: [{ index: 2, delta: { content: 'a "quoted"\n🪿' }, logprobs: null, finish_reason: null }],
    });
    const last: OpenAI.ChatCompletionChunk = chunks.end(2, end, { deltas: [], finishReason: "stop" });
    assert.deepEqual(last.choices, [{ index: 2, delta: {}, logprobs: null, finish_reason: "stop" }]);
    assert.equal("usage" in last, includeUsage);
    const usage: OpenAI.ChatCompletionChunk = chunks.usage([end]);
    assert.deepEqual(usage.choices, []);
    assert.equal(usage.usage!.prompt_tokens_details!.cached_tokens, 2);
  }
  const text: OpenAI.Completion = JSON.parse(
    textChunks(frameOf("text", true)).text(0, { text: "moo", logprobs: null }),
  );
  assert.deepEqual(text.choices, [{ index: 0, text: "moo", logprobs: null, finish_reason: null }]);
  assert.equal(text.usage, null);
});
