/** From the JSON of the Responses API to the chat request that it is. */
import { z } from "zod";
import type { ChatMessage } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Random } from "../../util/random.ts";
import { checkShape } from "../requests/check-shape.ts";
import { metadataOf } from "../requests/metadata.ts";
import { type CompletionRequest, parseChatRequest } from "../requests/parse-request.ts";

const part = z.looseObject({ type: z.string() });
const item = z.looseObject({
  type: z.string().nullish(),
  role: z.string().nullish(),
  content: z.union([z.string(), z.array(part)]).nullish(),
});
const schema = z.looseObject({
  model: z.string().min(1).max(300),
  input: z.union([z.string(), z.array(item).min(1).max(10_000)]).nullish(),
  instructions: z.string().nullish(),
  previous_response_id: z.string().nullish(),
  store: z.boolean().nullish(),
  background: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  user: z.string().nullish(),
  text: z.record(z.string(), z.unknown()).nullish(),
});

export type InputItem = z.infer<typeof item>;
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
  readonly body: Body;
}

type Neutral = (value: unknown) => boolean;
const isOneOf =
  (...values: unknown[]): Neutral =>
  (value) =>
    values.includes(value);
const isEmpty: Neutral = (value) => Array.isArray(value) && value.length === 0;
const never: Neutral = () => false;
const isNone: Neutral = (value) =>
  Object.values(Object(value) as object).every((setting) => setting === null || setting === "none");

/** What would change the answer and is not served: whether a value asks for nothing. */
const unsupported: Readonly<Record<string, Neutral>> = {
  tools: isEmpty,
  tool_choice: isOneOf("none", "auto"),
  conversation: never,
  prompt: never,
  include: isEmpty,
  reasoning: isNone,
  top_logprobs: isOneOf(0),
  truncation: isOneOf("disabled"),
  context_management: isEmpty,
  moderation: never,
};

/** @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function parseResponseRequest(body: Body): ResponseRequest {
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

/** @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function messagesOf(items: readonly InputItem[]): ChatMessage[] {
  return items.map(({ type, role, content }, i) => {
    const at = `input.${i}`;
    if ((type ?? "message") !== "message") {
      throw new SkeinError("unsupported_parameter", `'${type!.slice(0, 50)}' items are not supported.`, {
        param: `${at}.type`,
        hint: "The models here read messages only.",
      });
    }
    if (role !== "user" && role !== "assistant" && role !== "system" && role !== "developer") {
      throw new SkeinError("invalid_request", `'${at}.role' must be user, assistant, system or developer.`, {
        param: `${at}.role`,
      });
    }
    if (content == null) {
      throw new SkeinError("invalid_request", `'${at}.content' must be a text, or a list of parts.`, {
        param: `${at}.content`,
      });
    }
    return { role, content: typeof content === "string" ? content : textOf(content, `${at}.content`) };
  });
}

function textOf(parts: readonly z.infer<typeof part>[], at: string): string {
  const texts = parts.map(({ type, text }, i) => {
    const param = `${at}.${i}`;
    if (type !== "input_text" && type !== "output_text" && type !== "text") {
      throw new SkeinError("unsupported_parameter", `'${type.slice(0, 50)}' parts are not supported.`, {
        param,
        hint: "The models here read text only.",
      });
    }
    if (typeof text === "string") return text;
    throw new SkeinError("invalid_request", `'${param}.text' must be a text.`, { param: `${param}.text` });
  });
  return texts.join("\n");
}

/** How the chat request calls what is called differently here. */
const paramNames: readonly (readonly [chat: string, response: string])[] = [
  ["messages", "input"],
  ["max_completion_tokens", "max_output_tokens"],
  ["response_format", "text.format"],
];

/** @param messages the whole conversation @throws SkeinError which names the parameters of the Responses API */
export function chatRequestOf(
  { model, body, text, isStream }: ResponseRequest,
  messages: readonly ChatMessage[],
  random: Random,
): CompletionRequest {
  const { temperature, top_p, max_output_tokens, skein, seed } = body;
  const format = formatOf(text);
  const chat = {
    model,
    messages,
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

export function inResponseWords(error: SkeinError): SkeinError {
  const { code, message, hint, retry, param } = error;
  const name = paramNames.find(([chat]) => param === chat || param?.startsWith(`${chat}.`) === true);
  if (param === undefined || name === undefined) return error;
  return new SkeinError(code, message.replaceAll(`'${name[0]}`, `'${name[1]}`), {
    ...(hint === undefined ? {} : { hint }),
    param: name[1] + param.slice(name[0].length),
    retry,
    cause: error,
  });
}
