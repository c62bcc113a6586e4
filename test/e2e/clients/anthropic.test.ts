/** Anthropic's own client over real processes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic, { type APIError } from "@anthropic-ai/sdk";
import { localNetwork } from "../local-network.ts";

let client: Anthropic;
const network = localNetwork({ llama: 1 }, ({ url }) => {
  client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
});

const cow = [{ role: "user" as const, content: "What sound does a cow make?" }];
const shared = { model: "tiny", max_tokens: 40, temperature: 0, messages: cow };

function textOf({ content }: Anthropic.Message): string {
  return content.map((block) => (block.type === "text" ? block.text : "")).join("");
}

test("a message, whole and streamed, is the same", async () => {
  const whole = await client.messages.create(shared);
  assert.equal(whole.type, "message");
  assert.equal(whole.role, "assistant");
  assert.match(textOf(whole), /moo/i);
  assert.equal(whole.stop_reason, "end_turn");
  assert.ok(whole.usage.input_tokens > 0 && whole.usage.output_tokens > 0);
  const stream = client.messages.stream(shared);
  let text = "";
  stream.on("text", (piece) => (text += piece));
  const final = await stream.finalMessage();
  assert.equal(text, textOf(whole));
  assert.equal(textOf(final), text);
  assert.equal(final.stop_reason, "end_turn");
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
});

test("system, blocks, limits and stop sequences", async () => {
  const blocks = [{ type: "text" as const, text: "What sound does a cow make?" }];
  const messages = [{ role: "user" as const, content: blocks }];
  const cut = await client.messages.create({ ...shared, messages, system: "Be brief.", max_tokens: 2 });
  assert.equal(cut.stop_reason, "max_tokens");
  assert.equal(cut.usage.output_tokens, 2);
  const whole = textOf(await client.messages.create(shared));
  const stop = whole.slice(4, 8);
  const stopped = await client.messages.create({ ...shared, stop_sequences: [stop] });
  assert.equal(textOf(stopped), whole.slice(0, whole.indexOf(stop)));
});

test("tokens are counted before", async () => {
  const { input_tokens: counted } = await client.messages.countTokens({ model: "tiny", messages: cow });
  const { usage } = await client.messages.create(shared);
  // Anthropic counts apart what was in a cache.
  assert.equal(counted, usage.input_tokens + (usage.cache_read_input_tokens ?? 0));
});

test("tools are used, answered, and streamed", async () => {
  const tool: Anthropic.Tool = {
    name: "turn",
    description: "Turns the fox.",
    input_schema: {
      type: "object",
      properties: { to: { enum: ["left", "right"] }, steps: { type: "integer", minimum: 1, maximum: 5 } },
      required: ["to", "steps"],
    },
  };
  const choice = { type: "any" as const, disable_parallel_tool_use: true };
  const body = { ...shared, max_tokens: 80, tools: [tool], tool_choice: choice };
  const first = await client.messages.create(body);
  assert.equal(first.stop_reason, "tool_use");
  const [use] = first.content;
  assert.ok(use?.type === "tool_use" && use.name === "turn");
  const { to, steps } = use.input as { to: string; steps: number };
  assert.ok(["left", "right"].includes(to) && steps >= 1 && steps <= 5);
  const streamed = await client.messages.stream(body).finalMessage();
  assert.deepEqual((streamed.content[0] as Anthropic.ToolUseBlock).input, use.input);
  const next = await client.messages.create({
    ...shared,
    tools: [tool],
    tool_choice: { type: "none" },
    messages: [
      ...cow,
      { role: "assistant", content: first.content },
      { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "done" }] },
    ],
  });
  assert.ok(textOf(next).length > 0);
});

test("errors are the client's own kinds", async () => {
  const refused = async (body: object, kind: new (...args: never[]) => APIError): Promise<void> => {
    await assert.rejects(
      client.messages.create({ ...shared, ...body } as Anthropic.MessageCreateParamsNonStreaming),
      (error) => error instanceof kind && error.requestID?.startsWith("req_") === true,
    );
  };
  await refused({ max_tokens: 0 }, Anthropic.BadRequestError);
  await refused({ model: "nobody's" }, Anthropic.NotFoundError);
});

test("who leaves a stream frees its provider", async () => {
  const stream = client.messages.stream({ ...shared, temperature: 1, max_tokens: 400 });
  for await (const event of stream) if (event.type === "content_block_delta") break;
  stream.abort();
  assert.match(textOf(await client.messages.create(shared)), /moo/i);
  assert.equal(network.gateway.child.exitCode, null);
});
