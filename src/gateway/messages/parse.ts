/** From Anthropic's message request to the chat request that it is. */
import { z } from "zod";
import type { ChatMessage } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Random } from "../../util/random.ts";
import { refuseUnknown } from "../requests/known-fields.ts";
import { checkShape } from "../requests/check-shape.ts";
import { openaiMessage } from "../../engine/openai-tools.ts";
import { content, messagesOf, textOf } from "./content.ts";
import { chatTools, toolParam, toolsShape } from "./tools.ts";
import { type CompletionRequest, parseChatRequest } from "../requests/parse-request.ts";

const shared = {
  model: z.string().min(1).max(300),
  messages: z
    .array(z.looseObject({ role: z.enum(["user", "assistant"]), content }))
    .min(1)
    .max(10_000),
  system: content.nullish(),
  ...toolsShape,
};
const countSchema = z.looseObject(shared);
const schema = z.looseObject({
  ...shared,
  max_tokens: z.int().min(1),
  temperature: z.number().min(0).max(1).nullish(),
  stop_sequences: z.array(z.string()).nullish(),
});

type Body = Record<string, unknown>;

const asksNothing: Readonly<Record<string, (value: unknown) => boolean>> = {
  mcp_servers: (value) => Array.isArray(value) && value.length === 0,
  container: () => false,
  context_management: () => false,
  output_format: () => false,
  output_config: () => false,
  inference_geo: () => false,
  diagnostics: () => false,
  speed: (value) => String(value) === "standard",
};

/** How the chat request calls what is called differently here. */
const paramNames: Readonly<Record<string, string>> = {
  stop: "stop_sequences",
  max_completion_tokens: "max_tokens",
  reasoning_effort: "thinking",
};

/** @throws SkeinError `invalid_request`, `unsupported_parameter`, with the names that they have here */
export function parseMessageRequest(body: Body, random: Random): CompletionRequest {
  refuseUnknown("messages", body);
  const messages = conversationOf(body);
  const { max_tokens, stop_sequences } = checkShape(schema, body);
  const last = messages.at(-1)!;
  if (last.role === "assistant") {
    throw new SkeinError("unsupported_parameter", "The beginning of an answer cannot be given.", {
      param: `messages.${(body["messages"] as unknown[]).length - 1}`,
      hint: "Let the user have the last message.",
    });
  }
  return chatRequest(body, messages, random, { max_tokens, stop: stop_sequences });
}

/** The same without what only an answer needs. */
export function parseCountRequest(body: Body, random: Random): CompletionRequest {
  const { model, tools, tool_choice, thinking } = body;
  return chatRequest({ model, tools, tool_choice, thinking }, conversationOf(body), random, {});
}

/** @throws SkeinError */
function conversationOf(body: Body): ChatMessage[] {
  for (const [param, isNothing] of Object.entries(asksNothing)) {
    const value = body[param];
    if (value === undefined || value === null || isNothing(Object(value))) continue;
    throw new SkeinError("unsupported_parameter", `'${param}' is not supported yet.`, {
      param,
      hint: "Leave it out.",
    });
  }
  const given = checkShape(countSchema, body);
  const system = given.system == null ? "" : textOf(given.system, "system");
  const messages = given.messages.flatMap((message, i) => messagesOf(message, `messages.${i}.content`));
  return system === "" ? messages : [{ role: "system", content: system }, ...messages];
}

function chatRequest(
  body: Body,
  messages: readonly ChatMessage[],
  random: Random,
  more: Body,
): CompletionRequest {
  const { model, temperature, top_p, top_k, stream, skein } = body;
  try {
    const chat = { model, messages: messages.map(openaiMessage), temperature, top_p, top_k, stream, skein };
    return parseChatRequest({ ...chat, ...chatTools(body), ...more }, random);
  } catch (error) {
    if (!(error instanceof SkeinError) || error.param === undefined) throw error;
    const name = toolParam(error.param) ?? paramNames[error.param];
    if (name === undefined) throw error;
    const { code, message, hint } = error;
    throw new SkeinError(code, message.replaceAll(`'${error.param}'`, `'${name}'`), {
      ...(hint === undefined ? {} : { hint }),
      param: name,
    });
  }
}
