/**
 * Receipts as people and programs keep them: JSON with everything that is needed to check them (docs/API.md, "Receipts").
 * Hashes and signatures are hexadecimal, amounts decimal strings.
 */
import { z } from "zod";
import type { Prompt } from "../protocol/generate.ts";
import { promptSchema } from "../protocol/messages.ts";
import { fromHex, toHex } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { type Asked, tiers } from "./asked.ts";
import type { SignedCheckpoint } from "./checkpoint.ts";
import { finishes, type SignedReceipt } from "./receipt.ts";

/** One attempt at a choice. */
export interface Part {
  readonly providerId: string;
  readonly asked: Asked;
  /** What it delivered. Null: the engine has no token ids. */
  readonly tokenIds: readonly number[] | null;
  readonly text: string;
  /**
   * Characters of the answer before it, where the attempt ahead of it went on meanwhile: the stream moved. Absent: it goes on where that
   * one stopped.
   */
  readonly textFrom?: number;
  /** Null: it never came. */
  readonly receipt: SignedReceipt | null;
  /** The last one that came. */
  readonly checkpoint: SignedCheckpoint | null;
  /** What the gateway found wrong. */
  readonly problem: string | null;
}

/** One choice of an answer: attempts, each going on where the one before stopped. */
export interface ReceiptedChoice {
  readonly index: number;
  /** Of an answer that several providers were asked for, each by itself: which of them. */
  readonly replica?: number;
  /** Null: it was too long to be kept. */
  readonly prompt: Prompt | null;
  readonly parts: readonly Part[];
}

export interface ReceiptDocument {
  readonly requestId: string;
  readonly choices: readonly ReceiptedChoice[];
}

const hexBytes = (bytes: number | null) =>
  z
    .string()
    .regex(/^(?:[0-9a-f]{2})*$/, "not hexadecimal")
    .max(2 ** 21)
    .refine((text) => bytes === null || text.length === 2 * bytes, "wrong length")
    .transform(fromHex);
const hash = hexBytes(32);
/** Where there is none, null says so: zeros would be signed as the same. */
const hashOrNull = hash.refine((value) => value.some((byte) => byte !== 0), "no hash").nullable();
const signature = hexBytes(64);
const u32 = z.number().int().min(0).max(0xffff_ffff);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const amount = z
  .string()
  .regex(/^\d{1,20}$/)
  .transform(BigInt)
  .refine((value) => value < 1n << 64n, "too large");
const text = z.string().max(200);
const number = z.number();

const askedSchema = z.strictObject({
  request_id: text,
  model_id: text,
  tier: z.enum(tiers),
  prompt_hash: hash,
  max_tokens: count.min(1).nullable(),
  temperature: number,
  top_p: number,
  top_k: u32,
  min_p: number,
  presence_penalty: number,
  frequency_penalty: number,
  seed: u32,
  options: hexBytes(null),
  timeout_ms: count,
  price: z.strictObject({
    input_per_million_tokens: amount,
    output_per_million_tokens: amount,
    per_second: amount,
  }),
  context_tokens_max: u32,
  charges_prompt: z.boolean(),
  emitted: z.strictObject({ tokens: u32, tokens_hash: hash, text_hash: hash }),
  previous: hashOrNull,
});

const receiptSchema = z.strictObject({
  tier: z.enum(tiers),
  request_hash: hash,
  provider: text,
  sequence: count.min(1),
  previous_receipt: hash,
  model_id: text,
  ops_hash: hashOrNull,
  engine: text,
  prompt_tokens: u32,
  prompt_tokens_hash: hashOrNull,
  start_position: u32,
  output_tokens: u32,
  output_tokens_hash: hashOrNull,
  output_text_hash: hash,
  finish: z.enum(finishes),
  seed: u32,
  seed_proof: hexBytes(null),
  execution: z.strictObject({ positions: u32.min(1), root: hash, chain: hash }).nullable(),
  duration_ms: u32,
  fee: amount,
  received_ms: count,
  first_ms: count,
  last_ms: count,
  evidence: z.strictObject({ tee: hexBytes(null), toploc: hexBytes(null), difr: hexBytes(null) }),
  signature,
});

const checkpointSchema = z.strictObject({
  request_hash: hash,
  provider: text,
  position: u32,
  positions: u32,
  chain: hash,
  signature,
});

const partSchema = z.strictObject({
  provider: text,
  request: askedSchema,
  output: z.strictObject({
    token_ids: z.array(u32).nullable(),
    text: z.string(),
    text_from: count.exactOptional(),
  }),
  receipt: receiptSchema.nullable(),
  checkpoint: checkpointSchema.nullable(),
  problem: z.string().nullable(),
});

const documentSchema = z.strictObject({
  object: z.literal("receipt"),
  version: z.literal(1),
  request_id: text,
  choices: z
    .array(
      z.strictObject({
        index: count,
        replica: count.exactOptional(),
        prompt: promptSchema.nullable(),
        parts: z.array(partSchema).max(1_000),
      }),
    )
    .max(1_000),
});

export type ReceiptDocumentView = z.input<typeof documentSchema>;
export type ReceiptedChoiceView = ReceiptDocumentView["choices"][number];
type PartView = ReceiptedChoiceView["parts"][number];

/** @throws SkeinError `invalid_request` saying what is wrong where */
export function parseDocument(json: unknown): ReceiptDocument {
  const result = documentSchema.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    const where = issue === undefined ? "" : ` at ${issue.path.join(".")}: ${issue.message}`;
    throw new SkeinError("invalid_request", `This is not a receipt${where.slice(0, 200)}.`, {
      hint: "skein receipt <id> fetches one from the gateway.",
      param: issue?.path[0] === undefined ? "object" : issue.path.join(".").slice(0, 100),
    });
  }
  const { request_id: requestId, choices } = result.data;
  return {
    requestId,
    choices: choices.map(({ parts, ...choice }) => ({ ...choice, parts: parts.map(partOf) })),
  };
}

function partOf(view: z.output<typeof partSchema>): Part {
  return {
    providerId: view.provider,
    asked: askedOfView(view.request),
    tokenIds: view.output.token_ids,
    text: view.output.text,
    ...(view.output.text_from === undefined ? {} : { textFrom: view.output.text_from }),
    receipt: view.receipt === null ? null : receiptOfView(view.receipt),
    checkpoint: view.checkpoint === null ? null : checkpointOfView(view.checkpoint),
    problem: view.problem,
  };
}

function askedOfView(view: z.output<typeof askedSchema>): Asked {
  const { price, emitted } = view;
  return {
    requestId: view.request_id,
    modelId: view.model_id,
    tier: view.tier,
    promptHash: view.prompt_hash,
    outputTokensMax: view.max_tokens,
    sampling: {
      temperature: view.temperature,
      topP: view.top_p,
      topK: view.top_k,
      minP: view.min_p,
      presencePenalty: view.presence_penalty,
      frequencyPenalty: view.frequency_penalty,
      seed: view.seed,
    },
    options: view.options,
    timeoutMs: view.timeout_ms,
    price: {
      inputPerMillionTokens: price.input_per_million_tokens,
      outputPerMillionTokens: price.output_per_million_tokens,
      perSecond: price.per_second,
    },
    contextTokensMax: view.context_tokens_max,
    chargesPrompt: view.charges_prompt,
    emitted: { tokens: emitted.tokens, tokensHash: emitted.tokens_hash, textHash: emitted.text_hash },
    previous: view.previous,
  };
}

function receiptOfView(view: z.output<typeof receiptSchema>): SignedReceipt {
  return {
    receipt: {
      tier: view.tier,
      requestHash: view.request_hash,
      providerId: view.provider,
      sequence: view.sequence,
      previousReceipt: view.previous_receipt,
      modelId: view.model_id,
      opsHash: view.ops_hash,
      engine: view.engine,
      promptTokens: view.prompt_tokens,
      promptTokensHash: view.prompt_tokens_hash,
      startPosition: view.start_position,
      outputTokens: view.output_tokens,
      outputTokensHash: view.output_tokens_hash,
      outputTextHash: view.output_text_hash,
      finish: view.finish,
      seed: view.seed,
      seedProof: view.seed_proof,
      execution: view.execution,
      durationMs: view.duration_ms,
      fee: view.fee,
      receivedMs: view.received_ms,
      firstMs: view.first_ms,
      lastMs: view.last_ms,
      evidence: view.evidence,
    },
    signature: view.signature,
  };
}

function checkpointOfView(view: z.output<typeof checkpointSchema>): SignedCheckpoint {
  const { request_hash: requestHash, provider: providerId, position, positions, chain } = view;
  return {
    checkpoint: { requestHash, providerId, position, positions, chain },
    signature: view.signature,
  };
}

export function documentView({ requestId, choices }: ReceiptDocument): ReceiptDocumentView {
  return { object: "receipt", version: 1, request_id: requestId, choices: choices.map(choiceView) };
}

export function choiceView({ parts, ...choice }: ReceiptedChoice): ReceiptedChoiceView {
  return { ...choice, parts: parts.map(partView) };
}

function partView(part: Part): PartView {
  return {
    provider: part.providerId,
    request: askedView(part.asked),
    output: {
      token_ids: part.tokenIds === null ? null : [...part.tokenIds],
      text: part.text,
      ...(part.textFrom === undefined ? {} : { text_from: part.textFrom }),
    },
    receipt: part.receipt === null ? null : receiptView(part.receipt),
    checkpoint: part.checkpoint === null ? null : checkpointView(part.checkpoint),
    problem: part.problem,
  };
}

function askedView(asked: Asked): PartView["request"] {
  const { sampling, price, emitted } = asked;
  return {
    request_id: asked.requestId,
    model_id: asked.modelId,
    tier: asked.tier,
    prompt_hash: toHex(asked.promptHash),
    max_tokens: asked.outputTokensMax,
    temperature: sampling.temperature,
    top_p: sampling.topP,
    top_k: sampling.topK,
    min_p: sampling.minP,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    seed: sampling.seed,
    options: toHex(asked.options),
    timeout_ms: asked.timeoutMs,
    price: {
      input_per_million_tokens: String(price.inputPerMillionTokens),
      output_per_million_tokens: String(price.outputPerMillionTokens),
      per_second: String(price.perSecond),
    },
    context_tokens_max: asked.contextTokensMax,
    charges_prompt: asked.chargesPrompt,
    emitted: {
      tokens: emitted.tokens,
      tokens_hash: toHex(emitted.tokensHash),
      text_hash: toHex(emitted.textHash),
    },
    previous: asked.previous === null ? null : toHex(asked.previous),
  };
}

function receiptView({ receipt, signature: signed }: SignedReceipt): NonNullable<PartView["receipt"]> {
  const { execution, evidence } = receipt;
  const hexOrNull = (bytes: Uint8Array | null): string | null => (bytes === null ? null : toHex(bytes));
  return {
    tier: receipt.tier,
    request_hash: toHex(receipt.requestHash),
    provider: receipt.providerId,
    sequence: receipt.sequence,
    previous_receipt: toHex(receipt.previousReceipt),
    model_id: receipt.modelId,
    ops_hash: hexOrNull(receipt.opsHash),
    engine: receipt.engine,
    prompt_tokens: receipt.promptTokens,
    prompt_tokens_hash: hexOrNull(receipt.promptTokensHash),
    start_position: receipt.startPosition,
    output_tokens: receipt.outputTokens,
    output_tokens_hash: hexOrNull(receipt.outputTokensHash),
    output_text_hash: toHex(receipt.outputTextHash),
    finish: receipt.finish,
    seed: receipt.seed,
    seed_proof: toHex(receipt.seedProof),
    execution:
      execution === null
        ? null
        : {
            positions: execution.positions,
            root: toHex(execution.root),
            chain: toHex(execution.chain),
          },
    duration_ms: receipt.durationMs,
    fee: String(receipt.fee),
    received_ms: receipt.receivedMs,
    first_ms: receipt.firstMs,
    last_ms: receipt.lastMs,
    evidence: { tee: toHex(evidence.tee), toploc: toHex(evidence.toploc), difr: toHex(evidence.difr) },
    signature: toHex(signed),
  };
}

function checkpointView({
  checkpoint,
  signature: signed,
}: SignedCheckpoint): NonNullable<PartView["checkpoint"]> {
  return {
    request_hash: toHex(checkpoint.requestHash),
    provider: checkpoint.providerId,
    position: checkpoint.position,
    positions: checkpoint.positions,
    chain: toHex(checkpoint.chain),
    signature: toHex(signed),
  };
}
