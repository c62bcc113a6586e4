/** From the JSON of the Responses API to the chat request that it is. */
import { z } from "zod";
import type { ChatMessage } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Random } from "../../util/random.ts";
import { refuseUnknown } from "../requests/known-fields.ts";
import { checkShape } from "../requests/check-shape.ts";
import { openaiMessage } from "../../engine/openai-tools.ts";
import { type InputItem, inputItem, messagesOf } from "./input.ts";
import { metadataOf } from "../requests/metadata.ts";
import { type CompletionRequest, parseChatRequest } from "../requests/parse-request.ts";

const schema = z.looseObject({
  model: z.string().min(1).max(300),
  input: z.union([z.string(), z.array(inputItem).min(1).max(10_000)]).nullish(),
  instructions: z.string().nullish(),
  previous_response_id: z.string().nullish(),
  store: z.boolean().nullish(),
  background: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  user: z.string().nullish(),
  text: z.record(z.string(), z.unknown()).nullish(),
  reasoning: z.looseObject({ effort: z.string().nullish() }).nullish(),
  tools: z.array(z.looseObject({ type: z.string() })).nullish(),
  tool_choice: z.union([z.string(), z.looseObject({ type: z.string() })]).nullish(),
});

type Body = Record<string, unknown>;

export interface ResponseRequest {
  readonly model: string;
  readonly inputItems: readonly InputItem[];
  readonly instructions: string | null;
  readonly previousId: string | null;
  readonly isStored: boolean;
  readonly isBackground: boolean;
  readonly isStream: boolean;
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly text: Body | null;
  /** Of thinking; null: the model's own. */
  readonly effort: string | null;
  readonly body: Body;
}

type Neutral = (value: unknown) => boolean;
const isOneOf =
  (...values: unknown[]): Neutral =>
  (value) =>
    values.includes(value);
const isEmpty: Neutral = (value) => Array.isArray(value) && value.length === 0;
const never: Neutral = () => false;

/** What would change the answer and is not served: whether a value asks for nothing. */
const unsupported: Readonly<Record<string, Neutral>> = {
  conversation: never,
  prompt: never,
  include: isEmpty,
  top_logprobs: isOneOf(0),
  truncation: isOneOf("disabled"),
  context_management: isEmpty,
  moderation: never,
  access_programs: never,
};

/** @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function parseResponseRequest(body: Body): ResponseRequest {
  refuseUnknown("responses", body);
  for (const [param, isNeutral] of Object.entries(unsupported)) {
    const value = body[param];
    if (value === undefined || value === null || isNeutral(value)) continue;
    throw new SkeinError("unsupported_parameter", `'${param}' is not supported yet.`, {
      param,
      hint: "Leave it out.",
    });
  }
  const given = checkShape(schema, body);
  const { input } = given;
  if (input == null) {
    throw new SkeinError("invalid_request", "'input' is missing: it must be a text, or a list of messages.", {
      param: "input",
    });
  }
  const request: ResponseRequest = {
    model: given.model,
    inputItems: typeof input === "string" ? [{ role: "user", content: input }] : input,
    instructions: given.instructions ?? null,
    previousId: given.previous_response_id ?? null,
    isStored: given.store ?? true,
    isBackground: given.background ?? false,
    isStream: given.stream ?? false,
    metadata: metadataOf(body["metadata"]),
    text: given.text ?? null,
    effort: effortOf(given.reasoning ?? {}),
    body,
  };
  if (!request.isBackground || request.isStored) return request;
  throw new SkeinError("invalid_request", "'background' needs 'store'.", { param: "background" });
}

/** All that the model reads. @param before the conversation that it goes on from */
export function conversationOf(
  { inputItems, instructions }: ResponseRequest,
  before: readonly ChatMessage[],
): ChatMessage[] {
  const conversation = [...before, ...messagesOf(inputItems)];
  return instructions === null ? conversation : [{ role: "system", content: instructions }, ...conversation];
}

/** @throws SkeinError `unsupported_parameter` */
function effortOf({ effort, ...others }: { readonly effort?: string | null | undefined }): string | null {
  const [name] = Object.entries(others).find(([, value]) => value != null && value !== "none") ?? [];
  if (name === undefined) return effort ?? null;
  throw new SkeinError("unsupported_parameter", `'reasoning.${name.slice(0, 50)}' is not supported yet.`, {
    param: `reasoning.${name.slice(0, 50)}`,
    hint: "Leave it out.",
  });
}

/** How the chat request calls what is called differently here. */
const paramNames: readonly (readonly [chat: string, response: string])[] = [
  ["messages", "input"],
  ["max_completion_tokens", "max_output_tokens"],
  ["response_format", "text.format"],
  ["reasoning_effort", "reasoning.effort"],
];

/** @param messages the whole conversation @throws SkeinError which names the parameters of the Responses API */
export function chatRequestOf(
  { model, body, text, effort, isStream }: ResponseRequest,
  messages: readonly ChatMessage[],
  random: Random,
): CompletionRequest {
  const { temperature, top_p, max_output_tokens, skein, seed, tools, tool_choice, parallel_tool_calls } =
    body;
  const format = formatOf(text);
  const chat = {
    model,
    messages: messages.map(openaiMessage),
    tools: Array.isArray(tools) ? tools.map(functionTool) : tools,
    tool_choice: chatChoice(tool_choice),
    parallel_tool_calls,
    reasoning_effort: effort,
    temperature,
    top_p,
    seed,
    skein,
    max_completion_tokens: max_output_tokens,
    ...(format === null ? {} : { response_format: format }),
    stream: isStream,
  };
  try {
    return parseChatRequest(chat, random);
  } catch (error) {
    throw error instanceof SkeinError ? inResponseWords(error) : error;
  }
}

/** What chat completions call a form of the answer has its schema one level deeper. */
function formatOf(text: Body | null): object | null {
  const format = text?.["format"];
  if (format == null) return null;
  const { type, ...json } = Object(format) as { type?: unknown };
  return type === "json_schema" ? { type, json_schema: json } : { type };
}

/** Chat completions have what a function is one level deeper. */
function functionTool(tool: unknown): unknown {
  const { type, ...given } = Object(tool) as { type?: unknown };
  return type === "function" ? { type, function: given } : { type };
}

function chatChoice(choice: unknown): unknown {
  if (typeof choice !== "object" || choice === null) return choice;
  const { type, name, mode, tools } = choice as Record<string, unknown>;
  if (type === "function") return { type, function: { name } };
  if (type !== "allowed_tools" || !Array.isArray(tools)) return choice;
  return { type, allowed_tools: { mode, tools: tools.map(functionTool) } };
}

export function inResponseWords(error: SkeinError): SkeinError {
  const { code, message, hint, retry, param } = error;
  const name = paramNames.find(([chat]) => param === chat || param?.startsWith(`${chat}.`) === true);
  const isTool = param?.startsWith("tools.") === true;
  if (param === undefined || (name === undefined && !isTool)) return error;
  const words = name === undefined ? message : message.replaceAll(`'${name[0]}`, `'${name[1]}`);
  const own = name === undefined ? param : name[1] + param.slice(name[0].length);
  return new SkeinError(code, isTool ? words.replaceAll(".function", "") : words, {
    ...(hint === undefined ? {} : { hint }),
    param: isTool ? own.replace(".function", "") : own.replace(".tool_call_id", ".call_id"),
    retry,
    cause: error,
  });
}
