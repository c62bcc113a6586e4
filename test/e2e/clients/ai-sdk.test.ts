/** The Vercel AI SDK over real processes of both engines. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embed, embedMany, generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";
import { localNetwork } from "../local-network.ts";

const network = localNetwork({ llama: 1, exact: 1 });
const provider = () =>
  createOpenAICompatible({
    name: "skein",
    baseURL: `${network.url}/v1`,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });

const Fox = z.object({
  name: z.string().max(12),
  age: z.int().min(1).max(20),
  mood: z.enum(["happy", "sad"]),
});

for (const name of ["tiny", "tiny-exact"]) {
  test(`${name}: a text, whole and streamed, with its usage`, async () => {
    const asked = {
      model: provider()(name),
      prompt: "What sound does a cow make?",
      temperature: 0,
      maxRetries: 0,
    };
    const { text, usage, finishReason } = await generateText(asked);
    assert.match(text, /moo/i);
    assert.equal(finishReason, "stop");
    const streamed = streamText(asked);
    let whole = "";
    for await (const part of streamed.textStream) whole += part;
    assert.equal(whole, text);
    assert.equal((await streamed.usage).outputTokens, usage.outputTokens);
    assert.equal((await streamed.usage).inputTokens, usage.inputTokens);
  });

  test(`${name}: an object of a given form, whole and growing`, async () => {
    const asked = {
      model: provider()(name),
      output: Output.object({ schema: Fox }),
      prompt: "Describe a fox as JSON.",
      temperature: 1,
      seed: 5,
      maxOutputTokens: 120,
      maxRetries: 0,
    };
    const { output } = await generateText(asked);
    Fox.parse(output);
    const streamed = streamText(asked);
    const grown: unknown[] = [];
    for await (const part of streamed.partialOutputStream) grown.push(part);
    assert.ok(grown.length > 1);
    assert.deepEqual(await streamed.output, output);
    assert.deepEqual(grown.at(-1), output);
  });

  test(`${name}: embeddings`, async () => {
    const model = provider().embeddingModel(name);
    const values = Array.from({ length: 40 }, (_, i) => `goose ${i}`);
    const { embeddings, usage } = await embedMany({ model, values, maxRetries: 0 });
    assert.equal(embeddings.length, values.length);
    assert.ok(usage.tokens > values.length);
    const { embedding } = await embed({ model, value: values[3]!, maxRetries: 0 });
    const dot = embedding.reduce((sum, value, i) => sum + value * embeddings[3]![i]!, 0);
    assert.ok(Math.abs(dot - 1) < 1e-3, `cosine ${dot}`);
  });
}

test("tools: an agent of several steps, whole and streamed", async () => {
  const turns: string[] = [];
  const turn = tool({
    description: "Turns the fox.",
    inputSchema: z.object({ to: z.enum(["left", "right"]), steps: z.int().min(1).max(5) }),
    execute: ({ to, steps }) => {
      turns.push(`${to} ${steps}`);
      return "done";
    },
  });
  const asked = {
    model: provider()("tiny"),
    tools: { turn },
    prompt: "Find the goose.",
    maxOutputTokens: 80,
    providerOptions: { skein: { parallel_tool_calls: false } },
    stopWhen: isStepCount(3),
    prepareStep: ({ stepNumber }: { stepNumber: number }) => ({
      toolChoice: stepNumber < 2 ? ("required" as const) : ("none" as const),
    }),
    maxRetries: 0,
  };
  const { steps } = await generateText(asked);
  assert.deepEqual(steps.map(({ finishReason }) => finishReason).slice(0, 2), ["tool-calls", "tool-calls"]);
  assert.equal(turns.length, 2);
  const streamed = streamText(asked);
  const parts: string[] = [];
  for await (const { type } of streamed.fullStream) if (parts.at(-1) !== type) parts.push(type);
  assert.equal(parts.filter((type) => type === "tool-result").length, 2);
  assert.equal(turns.length, 4);
});

test("the older endpoint, and its suffix where no model fills in", async () => {
  const model = provider().completionModel("tiny");
  const { text } = await generateText({
    model,
    prompt: "Once upon",
    temperature: 0,
    maxOutputTokens: 8,
    maxRetries: 0,
  });
  assert.ok(text.length > 0);
  const providerOptions = { skein: { suffix: "the end" } };
  await assert.rejects(
    generateText({ model, prompt: "Once upon", providerOptions, maxRetries: 0 }),
    (error) => APICallError.isInstance(error) && error.statusCode === 400 && /'suffix'/.test(error.message),
  );
});

test("errors have their status and say what is wrong", async () => {
  const model = provider()("nobody's");
  await assert.rejects(
    generateText({ model, prompt: "a", maxRetries: 0 }),
    (error) => APICallError.isInstance(error) && error.statusCode === 404 && /not served/.test(error.message),
  );
});
