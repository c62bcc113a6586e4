/** Schemas of the control messages inside frames. What is decoded has passed them. */
import { type ZodType, z } from "zod";
import {
  type GenerateRequest,
  grammarCharsMax,
  logitBiasMax,
  type Prompt,
  type Terms,
  type TokenLogprob,
  toolCallsMax,
  toolNameCharsMax,
  toolParametersCharsMax,
  toolsMax,
  topLogprobsMax,
  type Traced,
  type TraceRequest,
} from "./generate.ts";
import { dimensionsMax, type Embedded, type EmbedRequest, embedInputsMax } from "./embed.ts";
import type { ProviderStatus, SignedEnvelope } from "./offer.ts";
import { nonceBytes } from "./join-proof.ts";
import { coordinateSchema, priceSchema, tierSchema } from "./schemas.ts";

/** Raised with every change that an older peer would misunderstand. */
export const protocolVersion = 4;

const bytes = z.instanceof(Uint8Array);
const u32Max = 0xffff_ffff;
const u32 = z.number().int().min(0).max(u32Max);
const text = z.string().max(2_000);
const milliseconds = z.number().min(0).max(1e9);

export const helloSchema = z.strictObject({
  version: z.number().int().min(0).max(1000),
  role: z.enum(["gateway", "provider"]),
  nonce: bytes.refine((value) => value.length === nonceBytes, "wrong length"),
  software: z.string().max(100),
});
export type Hello = z.infer<typeof helloSchema>;

/** The provider's proof of the token (null without one), then the gateway's. */
export const proofSchema = z.strictObject({
  proof: bytes.refine((value) => value.length === 32, "wrong length").nullable(),
});
export type Proof = z.infer<typeof proofSchema>;

export const reasonSchema = z.strictObject({ reason: text });
export type Reason = z.infer<typeof reasonSchema>;

export const envelopeSchema: ZodType<SignedEnvelope> = z.strictObject({ payload: bytes, signature: bytes });

export const statusSchema: ZodType<ProviderStatus> = z.strictObject({
  active: u32,
  queued: u32,
  ready: z.boolean(),
  reason: text,
});

export const pingSchema = z.strictObject({ id: u32 });
export type Ping = z.infer<typeof pingSchema>;
/** With where the answering peer stands, unless it does not tell. */
export const pongSchema = z.strictObject({ id: u32, coordinate: coordinateSchema.exactOptional() });
export type Pong = z.infer<typeof pongSchema>;

/** Values of a message with a prompt: longer than any context, as token ids. */
export const promptValuesMax: number = 2 ** 20;
// By hand: zod would describe each of a million wrong items.
const tokenIds = z.custom<number[]>(
  (value) => Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0 && id <= u32Max),
  "not a list of token ids",
);
const contents = z.string().max(4 * 1024 * 1024);

const textPrompt = z.strictObject({
  kind: z.literal("text"),
  text: contents,
  suffix: contents.exactOptional(),
});
const tokensPrompt = z.strictObject({ kind: z.literal("tokens"), tokenIds });
const toolName = z.string().min(1).max(toolNameCharsMax);
const toolCallId = z.string().min(1).max(200);
const toolCall = z.strictObject({ id: toolCallId, name: toolName, arguments: contents });
const tool = z.strictObject({
  name: toolName,
  description: z.string().max(toolParametersCharsMax).exactOptional(),
  parameters: z.string().min(2).max(toolParametersCharsMax),
});

export const promptSchema: ZodType<Prompt> = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("chat"),
    messages: z
      .array(
        z.strictObject({
          role: z.enum(["system", "developer", "user", "assistant", "tool"]),
          content: contents,
          name: text.exactOptional(),
          toolCalls: z.array(toolCall).min(1).max(toolCallsMax).exactOptional(),
          toolCallId: toolCallId.exactOptional(),
        }),
      )
      .min(1)
      .max(10_000),
    tools: z
      .array(tool)
      .min(1)
      .max(toolsMax)
      .refine((tools) => new Set(tools.map(({ name }) => name)).size === tools.length, "a name comes twice")
      .exactOptional(),
    thinks: z.literal(false).exactOptional(),
  }),
  textPrompt,
  tokensPrompt,
]);

/** Without evidence of other kinds a receipt has less than 700 bytes. */
export const receiptBytesMax: number = 16 * 1024;
const hash = bytes.refine((value) => value.length === 32, "wrong length");

const termsSchema: ZodType<Terms> = z.strictObject({
  tier: tierSchema,
  price: priceSchema,
  contextTokensMax: u32,
  chargesPrompt: z.boolean(),
  previous: hash.nullable(),
});

export const generateSchema: ZodType<GenerateRequest> = z.strictObject({
  requestId: z.string().min(1).max(100),
  modelId: z.string().min(1).max(200),
  prompt: promptSchema,
  emitted: z.strictObject({ tokenIds, text: contents }),
  sampling: z.strictObject({
    temperature: z.number().min(0).max(100),
    topP: z.number().min(0).max(1),
    topK: u32,
    minP: z.number().min(0).max(1),
    presencePenalty: z.number().min(-10).max(10),
    frequencyPenalty: z.number().min(-10).max(10),
    logitBias: z
      .array(z.tuple([u32, z.number().min(-100).max(100)]))
      .max(logitBiasMax)
      .refine((entries) => new Set(entries.map(([id]) => id)).size === entries.length, "an id comes twice"),
    seed: u32,
  }),
  stop: z.array(z.string().min(1).max(10_000)).max(64),
  constraint: z
    .strictObject({
      grammar: z.string().min(1).max(grammarCharsMax),
      responseFormat: z.string().max(grammarCharsMax).nullable(),
      toolChoice: z.string().max(1_000).exactOptional(),
    })
    .nullable(),
  logprobs: z.number().int().min(0).max(topLogprobsMax).nullable(),
  cacheSalt: z.string().max(100).exactOptional(),
  outputTokensMax: z
    .number()
    .int()
    .min(1)
    .max(2 ** 31)
    .nullable(),
  timeoutMs: milliseconds,
  terms: termsSchema.exactOptional(),
});

export const traceSchema: ZodType<TraceRequest> = z.strictObject({
  modelId: z.string().min(1).max(200),
  sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  tokenIds,
  position: u32.nullable(),
});
export const tracedSchema: ZodType<Traced> = z.strictObject({ rows: bytes, leaves: bytes.nullable() });

export const embedSchema: ZodType<EmbedRequest> = z.strictObject({
  requestId: z.string().min(1).max(100),
  modelId: z.string().min(1).max(200),
  inputs: z
    .array(z.discriminatedUnion("kind", [textPrompt, tokensPrompt]))
    .min(1)
    .max(embedInputsMax),
  dimensions: z.number().int().min(1).max(dimensionsMax).nullable(),
  cacheSalt: z.string().max(100).exactOptional(),
  timeoutMs: milliseconds,
});
export const embeddedSchema: ZodType<Embedded> = z.strictObject({
  vectors: z
    .array(
      bytes.refine((value) => value.length % 4 === 0 && value.length <= 4 * dimensionsMax, "wrong length"),
    )
    .min(1)
    .max(embedInputsMax),
  promptTokens: u32,
  durationMs: z.number().int().min(0).max(1e9),
});

export const countSchema = z.strictObject({ modelId: z.string().min(1).max(200), prompt: promptSchema });
export type CountRequest = z.infer<typeof countSchema>;
export const countedSchema = z.strictObject({ promptTokens: u32 });
export type Counted = z.infer<typeof countedSchema>;

export const creditSchema = z.strictObject({ events: z.number().int().min(1).max(100_000) });
export type Credit = z.infer<typeof creditSchema>;

export const startSchema = z.strictObject({ promptTokens: u32, cachedTokens: u32 });
export type Start = z.infer<typeof startSchema>;

/** The longest token of any vocabulary is far shorter. */
const tokenBytesMax = 1_024;
const scored = {
  bytes: bytes.refine((value) => value.length <= tokenBytesMax, "too long"),
  logprob: z.number().max(0),
};
const logprobs: ZodType<TokenLogprob[]> = z.array(
  z.strictObject({ ...scored, top: z.array(z.strictObject(scored)).max(topLogprobsMax) }),
);

/** Tokens with log probabilities; those without come in frames of their own kind. */
export const scoredTokensSchema = z.strictObject({
  position: u32,
  tokenCount: u32,
  tokenIds: z.array(u32).max(64),
  text: contents,
  logprobs: logprobs.refine((value) => value.length <= 64, "too many"),
});

export const endSchema = z.strictObject({
  finishReason: z.enum(["stop", "length"]),
  promptTokens: u32,
  outputTokens: u32,
  timings: z.strictObject({ queueMs: milliseconds, prefillMs: milliseconds, decodeMs: milliseconds }),
});
export type End = z.infer<typeof endSchema>;

export const checkpointSchema = z.strictObject({
  position: u32,
  positions: u32,
  chain: hash,
  signature: bytes.refine((value) => value.length === 64, "wrong length"),
});
export type CheckpointBody = z.infer<typeof checkpointSchema>;

export const receiptSchema = z.strictObject({
  encoded: bytes.refine((value) => value.length <= receiptBytesMax, "too long"),
});
export type ReceiptBody = z.infer<typeof receiptSchema>;

export const failureSchema = z.strictObject({
  code: z.string().max(100),
  message: text,
  hint: text.nullable(),
  param: z.string().max(200).nullable(),
  retry: z.enum(["here", "elsewhere", "never"]),
});
export type Failure = z.infer<typeof failureSchema>;

// Without the check an empty byte string would do as well: two encodings of one message.
export const emptySchema = z
  .unknown()
  .refine((value) => !(value instanceof Uint8Array))
  .pipe(z.strictObject({}));
export type Empty = z.infer<typeof emptySchema>;
