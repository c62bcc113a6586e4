/** From the JSON of OpenAI's endpoints to what is asked of the network. */
import { z } from "zod";
import { frameBytesMax } from "../../network/port.ts";
import {
  type ChatMessage,
  type Constraint,
  logitBiasMax,
  type Prompt,
  type Sampling,
  topLogprobsMax,
} from "../../protocol/generate.ts";
import { messageText, toolsText } from "../../protocol/chat-texts.ts";
import type { Feature } from "../../protocol/offer.ts";
import type { RoutingHints } from "../../router/hints.ts";
import { utf8 } from "../../util/bytes.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Random } from "../../util/random.ts";
import { checkShape, wrongParameter } from "./check-shape.ts";
import { choicesMax } from "../options.ts";
import { hintsOf, skeinSchema } from "./parse-hints.ts";
import { constraintOf, responseFormatSchema } from "./parse-response-format.ts";
import {
  checkToolMessages,
  toolFieldsOf,
  toolMessageShape,
  toolsShape,
  type ToolUse,
  toolUseOf,
} from "./parse-tools.ts";
import { refuseUnknown } from "./known-fields.ts";
import { refuseUnsupported } from "../http/unsupported.ts";

/** A checked request of either endpoint. */
export interface CompletionRequest {
  readonly endpoint: "chat" | "text";
  readonly model: string;
  /** One choice per prompt and `n`. */
  readonly prompts: readonly Prompt[];
  readonly n: number;
  /** Seed of the first choice; the others derive theirs from it. */
  readonly sampling: Sampling;
  readonly stop: readonly string[];
  readonly constraint: Constraint | null;
  /** Functions that may be called; absent: none. */
  readonly toolUse?: ToolUse;
  /** Alternatives to each token whose log probabilities are wanted, too; null: none at all. */
  readonly logprobs: number | null;
  readonly outputTokensMax: number | null;
  /** Whether the answer is to say how it was served. */
  readonly namesTier: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** May another attempt use another identity of the same name? */
  readonly allowOtherModels: boolean;
  readonly hints: RoutingHints;
  /** Share of the providers' prices that is charged, rounded up; absent: all. */
  readonly feePercent?: number;
  /** Completions: the prompt's text comes first in each choice. */
  readonly echo?: boolean;
  /** Of the choices of each prompt only the `keep` best are shown, by mean log probability; absent: all. */
  readonly best?: { readonly keep: number; readonly showsLogprobs: boolean };
}

const content = z.union([z.string(), z.array(z.looseObject({ type: z.string() })).min(1)]).nullish();

const message = z.looseObject({
  role: z.enum(["system", "developer", "user", "assistant", "tool"]),
  content,
  name: z.string().max(200).nullish(),
  ...toolMessageShape,
});

const tokenIdMax = 0xffff_ffff;

const count = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER).nullish();

/** By hand: zod would look at each of a million entries before it counts them. */
const logitBias = z.custom<Record<string, number>>((value) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const entries = Object.entries(value);
  return (
    entries.length <= logitBiasMax &&
    entries.every(
      ([id, bias]) =>
        /^(0|[1-9]\d{0,9})$/.test(id) &&
        Number(id) <= tokenIdMax &&
        typeof bias === "number" &&
        Math.abs(bias) <= 100,
    )
  );
});

const shared = {
  model: z.string().min(1).max(300),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.number().int().min(0).max(1_000_000).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  logit_bias: logitBias.nullish(),
  seed: z.number().int().nullish(),
  n: z.number().int().min(1).max(choicesMax).nullish(),
  stop: z.union([z.string().min(1).max(1000), z.array(z.string().min(1).max(1000)).max(4)]).nullish(),
  max_tokens: count,
  response_format: responseFormatSchema.nullish(),
  service_tier: z.string().max(100).nullish(),
  skein: skeinSchema.nullish(),
};

const chatSchema = z.looseObject({
  ...shared,
  messages: z.array(message).min(1).max(10_000),
  max_completion_tokens: count,
  logprobs: z.boolean().nullish(),
  top_logprobs: z.number().int().min(0).max(topLogprobsMax).nullish(),
  ...toolsShape,
});

/** OpenAI's bounds of the older endpoint. */
const textLogprobsMax = 5;
const bestOfMax = 20;

const tokenIds = z.array(z.number().int().min(0).max(tokenIdMax)).min(1).max(1_000_000);
const textSchema = z.looseObject({
  ...shared,
  logprobs: z.union([z.literal(false), z.number().int().min(0).max(textLogprobsMax)]).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.number().int().min(1).max(bestOfMax).nullish(),
  suffix: z.string().nullish(),
  prompt: z.union([
    z.string(),
    tokenIds,
    z.array(z.string()).min(1).max(choicesMax),
    z.array(tokenIds).min(1).max(choicesMax),
  ]),
});

type Shared = z.infer<z.ZodObject<typeof shared>>;

/** One prompt travels in one frame, with room for what was emitted when an answer is continued elsewhere. */
const promptBytesMax: number = (frameBytesMax * 3) / 4;
/** More than any context; what sessions carry. */
const outputTokensLimit: number = 2 ** 31;

/** OpenAI's default for the older endpoint. */
const textOutputTokensDefault = 16;

/** @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function parseChatRequest(body: Record<string, unknown>, random: Random): CompletionRequest {
  refuseUnknown("chat", body);
  refuseUnsupported("chat", body);
  const request = checkShape(chatSchema, body);
  const messages = request.messages.map(toMessage);
  checkToolMessages(messages);
  const toolUse = toolUseOf(request);
  if (toolUse !== null && request.response_format != null && request.response_format.type !== "text") {
    throw new SkeinError("unsupported_parameter", "'response_format' beside 'tools' is not supported yet.", {
      param: "response_format",
      hint: "Leave one of them out; strict functions have a schema, too.",
    });
  }
  const prompt: Prompt = {
    kind: "chat",
    messages,
    ...(toolUse === null ? {} : { tools: toolUse.tools }),
    ...(request.reasoning_effort === "none" ? { thinks: false } : {}),
  };
  checkSize(prompt, "messages");
  const top = request.top_logprobs ?? null;
  if (top !== null && top > 0 && request.logprobs !== true) {
    throw new SkeinError("invalid_request", "'top_logprobs' needs 'logprobs' to be true.", {
      param: "top_logprobs",
    });
  }
  const asked = common(request, random, request.logprobs === true ? (top ?? 0) : null);
  const needs: Feature[] = [...asked.hints.needs];
  if (toolUse !== null) needs.push("tools");
  if (prompt.thinks === false) needs.push("no_thinking");
  return {
    ...asked,
    hints: { ...asked.hints, needs },
    ...(toolUse === null ? {} : { toolUse }),
    endpoint: "chat",
    prompts: [prompt],
    outputTokensMax: bounded(request.max_completion_tokens ?? request.max_tokens ?? null),
  };
}

/** @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function parseTextRequest(body: Record<string, unknown>, random: Random): CompletionRequest {
  refuseUnknown("completions", body);
  refuseUnsupported("text", body);
  const request = checkShape(textSchema, body);
  const suffix = request.suffix ?? "";
  const prompts = toPrompts(request.prompt).map((prompt) => withSuffix(prompt, suffix));
  for (const prompt of prompts) checkSize(prompt, "prompt");
  const keep = request.n ?? 1;
  const n = request.best_of ?? keep;
  checkBestOf(request, keep, n);
  checkEcho(request, prompts);
  if (prompts.length * n > choicesMax) {
    throw new SkeinError(
      "invalid_request",
      `${prompts.length} prompts times n are more than ${choicesMax} choices.`,
      { param: request.best_of == null ? "n" : "best_of", hint: "Send several requests." },
    );
  }
  const logprobs = typeof request.logprobs === "number" ? request.logprobs : null;
  // Whatever is to be chosen from has to be known.
  const isChoosing = n > keep;
  const asked = common(request, random, isChoosing ? (logprobs ?? 0) : logprobs);
  const needs: Feature[] = suffix === "" ? [] : ["infill"];
  return {
    ...asked,
    n,
    hints: { ...asked.hints, needs: [...asked.hints.needs, ...needs] },
    ...(request.echo === true ? { echo: true } : {}),
    ...(isChoosing ? { best: { keep, showsLogprobs: logprobs !== null } } : {}),
    endpoint: "text",
    prompts,
    outputTokensMax: bounded(request.max_tokens ?? textOutputTokensDefault),
  };
}

function withSuffix(prompt: Prompt, suffix: string): Prompt {
  if (suffix === "") return prompt;
  if (prompt.kind === "text") return { ...prompt, suffix };
  throw new SkeinError("unsupported_parameter", "'suffix' behind token ids is not supported.", {
    param: "suffix",
    hint: "Send the prompt as text, or with the model's own tokens for what stands before and behind.",
  });
}

function checkBestOf({ stream, best_of: bestOf }: z.infer<typeof textSchema>, n: number, of: number): void {
  if (of < n) {
    throw new SkeinError("invalid_request", `'best_of' must be at least 'n', which is ${n}.`, {
      param: "best_of",
    });
  }
  if (of === n || stream !== true) return;
  throw new SkeinError(
    "invalid_request",
    `The best of ${bestOf} is known at the end, so it cannot be streamed.`,
    {
      param: "best_of",
      hint: "Leave out 'stream' or 'best_of'.",
    },
  );
}

function checkEcho({ echo, logprobs }: z.infer<typeof textSchema>, prompts: readonly Prompt[]): void {
  if (echo !== true) return;
  if (typeof logprobs === "number") {
    throw new SkeinError(
      "unsupported_parameter",
      "'echo' with 'logprobs' is not supported: those of prompts are not computed.",
      {
        param: "echo",
        hint: "Leave one of them out.",
      },
    );
  }
  if (prompts.every(({ kind }) => kind === "text")) return;
  throw new SkeinError("unsupported_parameter", "'echo' of token ids is not supported.", {
    param: "echo",
    hint: "Leave it out.",
  });
}

function bounded(tokens: number | null): number | null {
  return tokens === null ? null : Math.min(tokens, outputTokensLimit);
}

/** A prompt that no session can carry must not reach one. @throws SkeinError `request_too_large` */
function checkSize(prompt: Prompt, param: string): void {
  if (bytesOf(prompt) <= promptBytesMax) return;
  throw new SkeinError("request_too_large", `A prompt is larger than ${promptBytesMax} bytes.`, {
    param,
    hint: "Shorten it; the contexts of models are far smaller.",
  });
}

/** At least what the prompt takes in a frame. */
function bytesOf(prompt: Prompt): number {
  if (prompt.kind === "tokens") return 5 * prompt.tokenIds.length;
  if (prompt.kind === "text") return utf8(prompt.text + (prompt.suffix ?? "")).length;
  return prompt.messages.reduce(
    (sum, each) => sum + 48 + utf8(messageText(each)).length + utf8(each.name ?? "").length,
    48 + utf8(toolsText(prompt.tools ?? [])).length,
  );
}

function common(request: Shared, random: Random, logprobs: number | null) {
  const constraint = constraintOf(request.response_format);
  const needs: Feature[] = logprobs === null ? [] : ["logprobs"];
  if (constraint !== null) needs.push(constraint.responseFormat === null ? "grammar" : "json");
  return {
    model: request.model,
    n: request.n ?? 1,
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
    allowOtherModels: request.skein?.allow_other_models ?? false,
    hints: { ...hintsOf(request.skein), needs },
    constraint,
    logprobs,
    namesTier: request.service_tier != null,
    stop: typeof request.stop === "string" ? [request.stop] : (request.stop ?? []),
    sampling: {
      temperature: request.temperature ?? 1,
      topP: request.top_p ?? 1,
      topK: request.top_k ?? 0,
      minP: request.min_p ?? 0,
      presencePenalty: request.presence_penalty ?? 0,
      frequencyPenalty: request.frequency_penalty ?? 0,
      logitBias: Object.entries(request.logit_bias ?? {}).map(([id, nats]) => [Number(id), nats] as const),
      seed: request.seed == null ? randomSeed(random) : seedOf(request.seed),
    },
  };
}

function randomSeed(random: Random): number {
  return new DataView(random.bytes(4).buffer).getUint32(0);
}

/** Clients' seeds have up to 53 bits and a sign; both halves count, and 32-bit ones stay what they are. */
function seedOf(seed: number): number {
  const bits = BigInt.asUintN(64, BigInt(seed));
  const high = Number(bits >> 32n);
  const mixed = Math.imul(high ^ (high >>> 16), 0x85ebca6b);
  return (Number(bits & 0xffff_ffffn) ^ mixed ^ (mixed >>> 13)) >>> 0;
}

function toMessage(given: z.infer<typeof message>, index: number): ChatMessage {
  const { role, content: parts, name } = given;
  const path = ["messages", String(index), "content"];
  // Only an assistant may have said nothing.
  if (parts == null && role !== "assistant") throw wrongParameter(path, { messages: { [index]: given } }, "");
  return {
    role,
    content: toText(parts, path),
    ...(name == null ? {} : { name }),
    ...toolFieldsOf(given, index),
  };
}

/** Joined by line breaks, as other servers of open models do. */
function toText(given: z.infer<typeof content>, path: readonly string[]): string {
  if (given == null) return "";
  if (typeof given === "string") return given;
  return given
    .map((part, index) => {
      const param = [...path, String(index)].join(".");
      if (part.type !== "text") {
        throw new SkeinError(
          "unsupported_parameter",
          `'${part.type.slice(0, 50)}' parts are not supported.`,
          {
            param,
            hint: "The models here read text only.",
          },
        );
      }
      if (typeof part["text"] === "string") return part["text"];
      throw new SkeinError("invalid_request", `'${param}.text' must be a text.`, { param: `${param}.text` });
    })
    .join("\n");
}

function toPrompts(prompt: z.infer<typeof textSchema>["prompt"]): Prompt[] {
  if (typeof prompt === "string") return [{ kind: "text", text: prompt }];
  if (typeof prompt[0] === "number") return [{ kind: "tokens", tokenIds: prompt as number[] }];
  return (prompt as (string | number[])[]).map((item) =>
    typeof item === "string" ? { kind: "text", text: item } : { kind: "tokens", tokenIds: item },
  );
}
