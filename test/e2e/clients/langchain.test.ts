/** LangChain.js over real processes of both engines. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AIMessageChunk, HumanMessage } from "@langchain/core/messages";
import { StringOutputParser } from "@langchain/core/output_parsers";
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { z } from "zod";
import { localNetwork } from "../local-network.ts";

const network = localNetwork({ llama: 1, exact: 1 });
const apiKey = "none";

function chatOf(
  model: string,
  more: Partial<ConstructorParameters<typeof ChatOpenAI>[0] & object> = {},
): ChatOpenAI {
  const configuration = { baseURL: `${network.url}/v1` };
  return new ChatOpenAI({
    model,
    apiKey,
    configuration,
    temperature: 0,
    maxTokens: 40,
    maxRetries: 0,
    ...more,
  });
}

for (const model of ["tiny", "tiny-exact"]) {
  test(`${model}: a chain answers, whole and streamed, with its usage`, async () => {
    const prompt = ChatPromptTemplate.fromMessages([["user", "What sound does a {animal} make?"]]);
    const chat = chatOf(model);
    const whole = await prompt.pipe(chat).invoke({ animal: "cow" });
    assert.match(whole.text, /moo/i);
    const usage = whole.usage_metadata as { input_tokens: number; output_tokens: number } | undefined;
    assert.ok(usage !== undefined && usage.input_tokens > 0 && usage.output_tokens > 0);
    let text = "";
    const chain = prompt.pipe(chat).pipe(new StringOutputParser());
    for await (const piece of await chain.stream({ animal: "cow" })) text += piece;
    assert.equal(text, whole.text);
  });

  test(`${model}: an object of a given form`, async () => {
    const Fox = z.object({
      name: z.string().max(12),
      age: z.int().min(1).max(20),
      mood: z.enum(["happy", "sad"]),
    });
    const structured = chatOf(model, { temperature: 1, maxTokens: 120 }).withStructuredOutput(Fox, {
      name: "fox",
      method: "jsonSchema",
    });
    Fox.parse(await structured.invoke("Describe a fox as JSON."));
  });

  test(`${model}: texts and questions become vectors`, async () => {
    const configuration = { baseURL: `${network.url}/v1` };
    const embeddings = new OpenAIEmbeddings({ model, apiKey, configuration, batchSize: 20, maxRetries: 0 });
    const texts = Array.from({ length: 50 }, (_, i) => `goose ${i}`);
    const vectors = await embeddings.embedDocuments(texts);
    assert.equal(vectors.length, texts.length);
    const seventh = await embeddings.embedQuery(texts[7]!);
    const dot = seventh.reduce((sum, value, i) => sum + value * vectors[7]![i]!, 0);
    assert.ok(Math.abs(dot - 1) < 1e-3, `cosine ${dot}`);
  });
}

test("tools are bound, called, and answered", async () => {
  const turn = tool(({ to, steps }) => `You went ${steps} steps to the ${to}.`, {
    name: "turn",
    description: "Turns the fox.",
    schema: z.object({ to: z.enum(["left", "right"]), steps: z.int().min(1).max(5) }),
  });
  const chat = chatOf("tiny", { maxTokens: 60, temperature: 1 });
  const question = new HumanMessage("Find the goose.");
  const asking = chat.bindTools([turn], { tool_choice: "required", parallel_tool_calls: false });
  const called = await asking.invoke([question]);
  const [call] = called.tool_calls ?? [];
  assert.equal(call?.name, "turn");
  const result = await turn.invoke({ ...call, type: "tool_call" });
  assert.match(result.text, /^You went [1-5] steps to the (left|right)\.$/);
  const last = await chat.bindTools([turn], { tool_choice: "none" }).invoke([question, called, result]);
  assert.ok(last.text.length > 0);
  const chunks: AIMessageChunk[] = [];
  for await (const chunk of await asking.stream([question])) chunks.push(chunk);
  const streamed = chunks.reduce((all, chunk) => all.concat(chunk));
  assert.equal(streamed.tool_calls?.[0]?.name, "turn");
});

test("many at once, and log probabilities", async () => {
  const answers = await chatOf("tiny").batch(
    ["1 + 2 = ?", "3 + 4 = ?", "5 + 1 = ?"].map((text) => [new HumanMessage(text)]),
  );
  assert.equal(answers.length, 3);
  const scored = await chatOf("tiny", { logprobs: true, topLogprobs: 2, maxTokens: 3 }).invoke(
    "What sound does a cow make?",
  );
  const { content } = scored.response_metadata["logprobs"] as { content: { top_logprobs: object[] }[] };
  assert.deepEqual(
    content.map(({ top_logprobs: top }) => top.length),
    [2, 2, 2],
  );
});

test("the older endpoint", async () => {
  const configuration = { baseURL: `${network.url}/v1` };
  const older = new OpenAI({
    model: "tiny",
    apiKey,
    configuration,
    temperature: 0,
    maxTokens: 8,
    n: 1,
    bestOf: 1,
    maxRetries: 0,
  });
  const text = await older.invoke("Once upon");
  assert.ok(text.length > 0);
  let streamed = "";
  for await (const piece of await older.stream("Once upon")) streamed += piece;
  assert.equal(streamed, text);
});

test("errors say what is wrong", async () => {
  await assert.rejects(chatOf("nobody's").invoke("a"), /not served by any provider/);
});
