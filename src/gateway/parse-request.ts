/** From the JSON of OpenAI's endpoints to what is asked of the network. */
import { z } from "zod";
import type { ChatMessage, Prompt, Sampling } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import type { Random } from "../util/random.ts";
import { choicesMax } from "./options.ts";
import { refuseUnsupported } from "./unsupported.ts";

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
  readonly outputTokensMax: number | null;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** May another attempt use another identity of the same name? */
  readonly allowOtherModels: boolean;
}

const textPart = z.looseObject({ type: z.literal("text"), text: z.string() });
const content = z.union([z.string(), z.array(z.looseObject({ type: z.string() })).min(1)]).nullish();

const message = z.looseObject({
  role: z.enum(["system", "developer", "user", "assistant", "tool"]),
  content,
  name: z.string().max(200).nullish(),
});

const count = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER).nullish();

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
  seed: z.number().int().nullish(),
  n: z.number().int().min(1).max(choicesMax).nullish(),
  stop: z.union([z.string().min(1).max(1000), z.array(z.string().min(1).max(1000)).max(4)]).nullish(),
  max_tokens: count,
  skein: z.strictObject({ allow_other_models: z.boolean().optional() }).nullish(),
};

const chatSchema = z.looseObject({
  ...shared,
  messages: z.array(message).min(1).max(10_000),
  max_completion_tokens: count,
});

const tokenIds = z.array(z.number().int().min(0).max(0xffff_ffff)).min(1).max(1_000_000);
const textSchema = z.looseObject({
  ...shared,
  prompt: z.union([
    z.string(),
    tokenIds,
    z.array(z.string()).min(1).max(choicesMax),
    z.array(tokenIds).min(1).max(choicesMax),
  ]),
});

type Shared = z.infer<z.ZodObject<typeof shared>>;

/** OpenAI's default for the older endpoint. */
const textOutputTokensDefault = 16;

/** @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function parseChatRequest(body: Record<string, unknown>, random: Random): CompletionRequest {
  refuseUnsupported("chat", body);
  const request = check(chatSchema, body);
  return {
    ...common(request, random),
    endpoint: "chat",
    prompts: [{ kind: "chat", messages: request.messages.map(toMessage) }],
    outputTokensMax: request.max_completion_tokens ?? request.max_tokens ?? null,
  };
}

/** @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function parseTextRequest(body: Record<string, unknown>, random: Random): CompletionRequest {
  refuseUnsupported("text", body);
  const request = check(textSchema, body);
  const prompts = toPrompts(request.prompt);
  if (prompts.length * (request.n ?? 1) > choicesMax) {
    throw new SkeinError(
      "invalid_request",
      `${prompts.length} prompts times n are more than ${choicesMax} choices.`,
      {
        param: "n",
      },
    );
  }
  return {
    ...common(request, random),
    endpoint: "text",
    prompts,
    outputTokensMax: request.max_tokens ?? textOutputTokensDefault,
  };
}

function common(request: Shared, random: Random) {
  return {
    model: request.model,
    n: request.n ?? 1,
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
    allowOtherModels: request.skein?.allow_other_models ?? false,
    stop: typeof request.stop === "string" ? [request.stop] : (request.stop ?? []),
    sampling: {
      temperature: request.temperature ?? 1,
      topP: request.top_p ?? 1,
      topK: request.top_k ?? 0,
      minP: request.min_p ?? 0,
      presencePenalty: request.presence_penalty ?? 0,
      frequencyPenalty: request.frequency_penalty ?? 0,
      seed: request.seed == null ? randomSeed(random) : seedOf(request.seed),
    },
  };
}

function randomSeed(random: Random): number {
  return new DataView(random.bytes(4).buffer).getUint32(0);
}

/** Clients' seeds have up to 53 bits and a sign; both halves count. */
function seedOf(seed: number): number {
  const bits = BigInt.asUintN(64, BigInt(seed));
  return Number((bits ^ (bits >> 32n)) & 0xffff_ffffn);
}

function toMessage({ role, content: given, name }: z.infer<typeof message>, index: number): ChatMessage {
  return { role, content: toText(given, `messages.${index}.content`), ...(name == null ? {} : { name }) };
}

function toText(given: z.infer<typeof content>, param: string): string {
  if (given == null) return "";
  if (typeof given === "string") return given;
  return given
    .map((part) => {
      const text = textPart.safeParse(part);
      if (text.success) return text.data.text;
      throw new SkeinError(
        "unsupported_parameter",
        `Parts of type ${part.type.slice(0, 50)} are not supported.`,
        {
          param,
          hint: "The models here read text only.",
        },
      );
    })
    .join("");
}

function toPrompts(prompt: z.infer<typeof textSchema>["prompt"]): Prompt[] {
  if (typeof prompt === "string") return [{ kind: "text", text: prompt }];
  if (typeof prompt[0] === "number") return [{ kind: "tokens", tokenIds: prompt as number[] }];
  return (prompt as (string | number[])[]).map((item) =>
    typeof item === "string" ? { kind: "text", text: item } : { kind: "tokens", tokenIds: item },
  );
}

function check<T extends z.ZodType>(schema: T, body: unknown): z.infer<T> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const param = issue.path.join(".");
  throw new SkeinError("invalid_request", `'${param}' is wrong: ${issue.message}.`, { param });
}
