/** OpenAI's response objects. Types are checked against the official client in the tests. */
import type { FeeView, ServedView, TrustView } from "../../protocol/gateway-api.ts";
import type { FinishReason } from "../../protocol/generate.ts";
import { type ErrorCode, errorKinds, type SkeinError } from "../../util/errors.ts";
import { type Bill, billOf } from "./answer-request.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
import { chatLogprobs, type Piece, textLogprobs } from "./logprobs.ts";
import type { CloudPrice } from "../options.ts";
import { trustName } from "../requests/parse-hints.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";
import { feeView } from "./views.ts";

export interface UsageView {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  completion_tokens_details: { reasoning_tokens: number };
  fee: FeeView;
}

/** What is the same in every object of one request. */
export interface Frame {
  readonly requestId: string;
  readonly createdMs: number;
  readonly request: CompletionRequest;
  readonly cloudPrice: CloudPrice | null;
}

function header<K extends string>(frame: Frame, kind: K, ends: readonly ChoiceEnd[]) {
  const { request } = frame;
  const chat = request.endpoint === "chat";
  const modelId = ends[0]?.slices.at(-1)?.offer.modelId;
  return {
    id: `${chat ? "chatcmpl" : "cmpl"}-${frame.requestId}`,
    object: kind,
    created: Math.floor(frame.createdMs / 1000),
    model: request.model,
    ...(modelId === undefined ? {} : { system_fingerprint: fingerprint(modelId) }),
    // Only one is there.
    ...(request.namesTier ? { service_tier: "default" as const } : {}),
  };
}

function fingerprint(modelId: string): string {
  return `fp_${modelId.slice(modelId.indexOf(":") + 1).slice(0, 12)}`;
}

export function usageView(frame: Frame, bill: Bill): UsageView {
  const tokens = { inputTokens: bill.promptTokens, outputTokens: bill.outputTokens };
  return {
    prompt_tokens: bill.promptTokens,
    completion_tokens: bill.outputTokens,
    total_tokens: bill.promptTokens + bill.outputTokens,
    prompt_tokens_details: { cached_tokens: bill.cachedTokens },
    completion_tokens_details: { reasoning_tokens: 0 },
    fee: feeView(bill.feeAmount, tokens, frame.cloudPrice),
  };
}

export function servedView(frame: Frame, ends: readonly ChoiceEnd[]): ServedView {
  const slice = ends[0]!.slices.at(-1)!;
  return {
    request_id: frame.requestId,
    provider: slice.providerId,
    model_id: slice.offer.modelId,
    engine: slice.offer.engine,
    attempts: Math.max(...ends.map((end) => end.attempts)),
    receipt: ends[0]!.receipt,
    trust: trustView(frame.request, ends),
  };
}

/** What can be relied on in all choices. */
export function trustView({ hints }: CompletionRequest, ends: readonly ChoiceEnd[]): TrustView {
  const asked = trustName(hints.trust);
  const hasReceipts = ends.every(({ receipt }) => receipt !== null);
  if (!hasReceipts) return { asked, given: "none" };
  const offers = ends.flatMap(({ slices }) => slices.map(({ offer }) => offer));
  const isExact = offers.every(({ trustTier }) => trustTier === "exact");
  if (!isExact) return { asked, given: "receipt" };
  if (hints.trust?.level === "replicated") return replicatedView(asked!, ends);
  // Whoever cannot be audited was not chosen.
  return { asked, given: hints.trust?.level === "audit" ? asked! : "exact" };
}

function replicatedView(asked: string, ends: readonly ChoiceEnd[]): TrustView {
  const agreed = Math.min(...ends.map(({ replication }) => replication?.agreed ?? 1));
  const replicas = ends.flatMap(({ replication }, choice) =>
    (replication?.replicas ?? []).map(({ providerId: provider, receipt, outcome }) => ({
      choice,
      provider,
      receipt,
      outcome,
    })),
  );
  return { asked, given: `replicated:${agreed}`, replicas };
}

/** A whole answer. */
export function completionObject(frame: Frame, ends: readonly ChoiceEnd[]) {
  return frame.request.endpoint === "chat" ? chatCompletion(frame, ends) : textCompletion(frame, ends);
}

export function chatCompletion(frame: Frame, ends: readonly ChoiceEnd[]) {
  const choices = ends.map(({ text, logprobs, finishReason }, index) => {
    const message = { role: "assistant" as const, content: text, refusal: null };
    return { index, message, logprobs: chatLogprobs(logprobs), finish_reason: finishReason };
  });
  return { ...header(frame, "chat.completion", ends), choices, ...accounts(frame, ends) };
}

export function textCompletion(frame: Frame, ends: readonly ChoiceEnd[]) {
  const choices = ends.map(({ text, logprobs, finishReason }, index) => ({
    index,
    text,
    logprobs: textLogprobs(logprobs),
    finish_reason: finishReason,
  }));
  return { ...header(frame, "text_completion", ends), choices, ...accounts(frame, ends) };
}

function accounts(frame: Frame, ends: readonly ChoiceEnd[]) {
  return { usage: usageView(frame, billOf(frame.request, ends)), skein: servedView(frame, ends) };
}

function closing<T extends FinishReason | null>(finishReason: T) {
  return { logprobs: null, finish_reason: finishReason };
}

/** The chunks of a stream, in order: one opening per choice (chat only), texts, one end per choice, usage. */
export function chunkObjects(frame: Frame) {
  return frame.request.endpoint === "chat" ? chatChunks(frame) : textChunks(frame);
}

export function chatChunks(frame: Frame) {
  const kind = "chat.completion.chunk";
  return {
    ...chunksOf(frame, kind, { delta: {} }, ['"delta":{"content":', "}"]),
    opening: (index: number) => ({
      ...header(frame, kind, []),
      choices: [
        { index, delta: { role: "assistant" as const, content: "", refusal: null }, ...closing(null) },
      ],
      ...unknownUsage(frame),
    }),
  };
}

export function textChunks(frame: Frame) {
  return { ...chunksOf(frame, "text_completion", { text: "" }, ['"text":', ""]), opening: null };
}

/** Whoever asked for usage finds the field in every chunk. */
function unknownUsage(frame: Frame): { usage?: null } {
  return frame.request.includeUsage ? { usage: null } : {};
}

function chunksOf<K extends string, C extends object>(
  frame: Frame,
  kind: K,
  nothingMore: C,
  around: readonly [string, string],
) {
  const view = frame.request.endpoint === "chat" ? chatLogprobs : textLogprobs;
  const scored = (logprobs: Piece["logprobs"]): string =>
    logprobs === null ? "null" : JSON.stringify(view(logprobs));
  // Texts are by far the most frequent: only what differs is written anew.
  const head = `${JSON.stringify(header(frame, kind, [])).slice(0, -1)},"choices":[{"index":`;
  const tail = `,"finish_reason":null}]${frame.request.includeUsage ? ',"usage":null}' : "}"}`;
  return {
    /** Serialized. */
    text: (index: number, { text, logprobs }: Piece) =>
      `${head}${index},${around[0]}${JSON.stringify(text)}${around[1]},"logprobs":${scored(logprobs)}${tail}`,
    end: (index: number, end: ChoiceEnd) => ({
      ...header(frame, kind, [end]),
      choices: [{ index, ...nothingMore, ...closing(end.finishReason) }],
      ...unknownUsage(frame),
      skein: servedView(frame, [end]),
    }),
    usage: (ends: readonly ChoiceEnd[]) => ({
      ...header(frame, kind, ends),
      choices: [],
      ...accounts(frame, ends),
    }),
  };
}

/** OpenAI's error object. */
export function errorObject(error: SkeinError) {
  return {
    error: {
      message: error.text,
      type: errorKinds[error.code satisfies ErrorCode].type,
      param: error.param ?? null,
      code: error.code,
    },
  };
}
