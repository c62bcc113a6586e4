/**
 * An agent: the model chooses functions of a server that speaks the Model Context Protocol (MCP), hears what they answer, and goes on.
 * The demo model is tiny, so that it has to be made to call something, and its context of 512 tokens is soon full; a capable one
 * decides itself (`tool_choice: "auto"`).
 */
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import OpenAI from "openai";
import { apiKey, baseURL, modelName } from "./network.ts";

const turnsMax = 2;

// 1. The server, started as a process of its own, and the functions that it offers.
const server = new Client({ name: "agent", version: "1.0.0" });
await server.connect(
  new StdioClientTransport({
    command: process.execPath,
    args: [fileURLToPath(new URL("./mcp-server.ts", import.meta.url))],
  }),
);
const { tools: offered } = await server.listTools();
const tools = offered.map(({ name, description = "", inputSchema }): OpenAI.ChatCompletionTool => {
  const { $schema: _, ...parameters } = inputSchema as Record<string, unknown>;
  return { type: "function", function: { name, description, parameters } };
});
console.log("functions:", offered.map(({ name }) => name).join(", "));

// 2. The model calls, the server answers, until the model has said enough.
const openai = new OpenAI({ baseURL, apiKey });
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "What is 3 + 4?" }];
for (let turn = 0; turn < turnsMax; turn++) {
  const { choices } = await openai.chat.completions.create({
    model: modelName,
    messages,
    tools,
    tool_choice: "required",
    parallel_tool_calls: false,
    max_tokens: 80,
  });
  const { message, finish_reason: reason } = choices[0]!;
  // A call that the context cut is none.
  if (reason !== "tool_calls") break;
  messages.push(message);
  for (const call of message.tool_calls ?? []) {
    if (call.type !== "function") continue;
    const { name, arguments: given } = call.function;
    const { content } = await server.callTool({
      name,
      arguments: JSON.parse(given) as Record<string, unknown>,
    });
    const text = (content as { text: string }[]).map((part) => part.text).join("\n");
    console.log("call:", name, given, "=", text);
    messages.push({ role: "tool", tool_call_id: call.id, content: text });
  }
}

// 3. What it makes of that.
const last = await openai.chat.completions.create({
  model: modelName,
  messages,
  tools,
  tool_choice: "none",
  max_tokens: 40,
});
console.log("answer:", last.choices[0]!.message.content);
await server.close();
