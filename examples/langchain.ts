/** LangChain.js: a chain whose text comes piece by piece, an object of a given form, a function, and embeddings. */
import { StringOutputParser } from "@langchain/core/output_parsers";
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { z } from "zod";
import { apiKey, baseURL, modelName } from "./network.ts";

const configuration = { baseURL };
const chat = new ChatOpenAI({ model: modelName, apiKey, configuration, temperature: 0, maxTokens: 60 });

// 1. A chain: prompt, model, text.
const prompt = ChatPromptTemplate.fromMessages([["user", "What sound does a {animal} make?"]]);
const chain = prompt.pipe(chat).pipe(new StringOutputParser());
process.stdout.write("text: ");
for await (const part of await chain.stream({ animal: "cow" })) process.stdout.write(part);
process.stdout.write("\n");

// 2. An object.
const Fox = z.object({
  name: z.string().max(12),
  age: z.int().min(1).max(20),
  mood: z.enum(["happy", "sad"]),
});
const structured = chat.withStructuredOutput(Fox, { name: "fox", method: "jsonSchema" });
console.log("object:", JSON.stringify(await structured.invoke("Describe a fox as JSON.")));

// 3. A function that the model calls.
const add = tool(({ a, b }) => String(a + b), {
  name: "add",
  description: "Adds two numbers.",
  schema: z.object({ a: z.int().min(0).max(99), b: z.int().min(0).max(99) }),
});
const calling = chat.bindTools([add], { tool_choice: "required", parallel_tool_calls: false });
const { tool_calls: calls } = await calling.invoke("What is 3 + 4?");
for (const call of calls ?? []) {
  const answer = await add.invoke(call as never);
  console.log(
    "function:",
    call.name,
    JSON.stringify(call.args),
    "=",
    String((answer as { content: unknown }).content),
  );
}

// 4. Embeddings.
const embeddings = new OpenAIEmbeddings({ model: modelName, apiKey, configuration });
const vectors = await embeddings.embedDocuments(["a goose", "a fox"]);
console.log("embeddings:", vectors.length, "of", vectors[0]?.length, "dimensions");
