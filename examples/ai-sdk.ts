/** The Vercel AI SDK: a text as it comes, an object of a given form, a function that is called, and embeddings. */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { apiKey, baseURL, modelName } from "./network.ts";

const skein = createOpenAICompatible({ name: "skein", baseURL, apiKey, supportsStructuredOutputs: true });
const model = skein(modelName);

// 1. A text, as it comes.
process.stdout.write("text: ");
const { textStream } = streamText({
  model,
  prompt: "What sound does a cow make?",
  temperature: 0,
  maxOutputTokens: 40,
});
for await (const part of textStream) process.stdout.write(part);
process.stdout.write("\n");

// 2. An object. Its form holds for every token, whatever the model would rather say.
const Fox = z.object({
  name: z.string().max(12),
  age: z.int().min(1).max(20),
  mood: z.enum(["happy", "sad"]),
});
const { output } = await generateText({
  model,
  output: Output.object({ schema: Fox }),
  prompt: "Describe a fox as JSON.",
  maxOutputTokens: 100,
});
console.log("object:", JSON.stringify(output));

// 3. A function that the model calls, once; then it answers.
const steps = generateText({
  model,
  prompt: "What is 3 + 4?",
  tools: {
    add: tool({
      description: "Adds two numbers.",
      inputSchema: z.object({ a: z.int().min(0).max(99), b: z.int().min(0).max(99) }),
      execute: ({ a, b }) => a + b,
    }),
  },
  stopWhen: stepCountIs(2),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  maxOutputTokens: 60,
});
const [first] = (await steps).steps;
for (const { toolName, input, output: sum } of first?.toolResults ?? [])
  console.log("function:", toolName, JSON.stringify(input), "=", sum);

// 4. Embeddings.
const { embeddings } = await embedMany({
  model: skein.embeddingModel(modelName),
  values: ["a goose", "a fox"],
});
console.log("embeddings:", embeddings.length, "of", embeddings[0]?.length, "dimensions");
