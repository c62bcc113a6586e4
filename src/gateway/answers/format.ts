/** OpenAI's response objects. Types are checked against the official client in the tests. */
import type { FeeView, ServedView, TrustView } from "../../protocol/gateway-api.ts";
import type { Delta, ReadAnswer } from "../../tools/answer-reader.ts";
import { type ErrorCode, errorKinds, type SkeinError } from "../../util/errors.ts";
import { type Bill, billOf } from "./answer-request.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
import { chatLogprobs, type Piece, textLogprobs } from "./logprobs.ts";
import type { CloudPrice } from "../options.ts";
import { trustName } from "../requests/parse-hints.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";
import { callId, type ChoiceReader, type Said, saidIn } from "./said.ts";
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
  const choices = ends.map((end, index) => {
    const { finishReason, ...said } = saidIn(frame.request, end);
    const message = { role: "assistant" as const, ...messageView(frame, index, said), refusal: null };
    return { index, message, logprobs: chatLogprobs(end.logprobs), finish_reason: finishReason };
  });
  return { ...header(frame, "chat.completion", ends), choices, ...accounts(frame, ends) };
}

/** Content is null where there are only calls. */
function messageView({ requestId }: Frame, choice: number, { content, reasoning, calls }: ReadAnswer) {
  const toolCalls = calls.map((call, i) => ({
    id: callId(requestId, choice, i),
    type: "function" as const,
    function: call,
  }));
  return {
    content: content === "" && calls.length > 0 ? null : content,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
    ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls }),
  };
}

export function textCompletion(frame: Frame, ends: readonly ChoiceEnd[]) {
  const { request } = frame;
  const showsLogprobs = request.best?.showsLogprobs ?? true;
  const choices = shownOf(request, ends).map(({ end: { text, logprobs, finishReason }, choice }, index) => ({
    index,
    text: echoOf(request, choice) + text,
    logprobs: showsLogprobs ? textLogprobs(logprobs) : null,
    finish_reason: finishReason,
  }));
  return { ...header(frame, "text_completion", ends), choices, ...accounts(frame, ends) };
}

/** What of the prompt comes first in a choice. */
function echoOf({ echo, prompts, n }: CompletionRequest, choice: number): string {
  const prompt = prompts[Math.floor(choice / n)]!;
  return echo === true && prompt.kind === "text" ? prompt.text : "";
}

/** Of each prompt's choices the best ones, by mean log probability of their tokens; in their own order where it is equal. */
function shownOf({ best, n }: CompletionRequest, ends: readonly ChoiceEnd[]) {
  const all = ends.map((end, choice) => ({ end, choice, score: meanLogprob(end) }));
  if (best === undefined) return all;
  return all.flatMap((_, i) =>
    i % n === 0
      ? all
          .slice(i, i + n)
          .toSorted((a, b) => b.score - a.score)
          .slice(0, best.keep)
      : [],
  );
}

function meanLogprob({ logprobs }: ChoiceEnd): number {
  if (logprobs === null || logprobs.length === 0) return -Number.MAX_VALUE;
  return logprobs.reduce((sum, { logprob }) => sum + logprob, 0) / logprobs.length;
}

function accounts(frame: Frame, ends: readonly ChoiceEnd[]) {
  return { usage: usageView(frame, billOf(frame.request, ends)), skein: servedView(frame, ends) };
}

function closing<T extends Said["finishReason"] | null>(finishReason: T) {
  return { logprobs: null, finish_reason: finishReason };
}

/** The chunks of a stream, in order: one opening per choice (chat, and where the prompt is echoed), texts, one end per choice, usage. */
export function chunkObjects(frame: Frame) {
  return frame.request.endpoint === "chat" ? chatChunks(frame) : textChunks(frame);
}

export function chatChunks(frame: Frame) {
  const kind = "chat.completion.chunk";
  return {
    ...chunksOf(frame, kind, (deltas, choice) => ({ delta: deltaView(frame, choice, deltas) }), [
      '"delta":{"content":',
      "}",
    ]),
    opening: (index: number) => ({
      ...header(frame, kind, []),
      choices: [
        {
          index,
          // Before calls there is no content, as OpenAI has it.
          delta: {
            role: "assistant" as const,
            content: frame.request.toolUse === undefined ? "" : null,
            refusal: null,
          },
          ...closing(null),
        },
      ],
      ...unknownUsage(frame),
    }),
  };
}

export function textChunks(frame: Frame) {
  const kind = "text_completion";
  const opening = (index: number) => ({
    ...header(frame, kind, []),
    choices: [{ index, text: echoOf(frame.request, index), ...closing(null) }],
    ...unknownUsage(frame),
  });
  const chunks = chunksOf(frame, kind, () => ({ text: "" }), ['"text":', ""]);
  return { ...chunks, opening: frame.request.echo === true ? opening : null };
}

/** Deltas of a step as one. The first of a call names it, the others bring its arguments. */
function deltaView({ requestId }: Frame, choice: number, deltas: readonly Delta[]) {
  const view: ChunkDelta = {};
  for (const delta of deltas) {
    if (delta.type === "content") view.content = (view.content ?? "") + delta.text;
    else if (delta.type === "reasoning") view.reasoning_content = (view.reasoning_content ?? "") + delta.text;
    else {
      const { index } = delta;
      const call =
        delta.type === "arguments"
          ? { index, function: { arguments: delta.text } }
          : {
              index,
              id: callId(requestId, choice, index),
              type: "function" as const,
              function: { name: delta.name, arguments: "" },
            };
      (view.tool_calls ??= []).push(call);
    }
  }
  return view;
}

export interface ChunkDelta {
  content?: string;
  reasoning_content?: string;
  tool_calls?: {
    index: number;
    id?: string;
    type?: "function";
    function: { name?: string; arguments: string };
  }[];
}

/** Whoever asked for usage finds the field in every chunk. */
function unknownUsage(frame: Frame): { usage?: null } {
  return frame.request.includeUsage ? { usage: null } : {};
}

type Ended = ReturnType<ChoiceReader["end"]>;

function chunksOf<K extends string, C extends object>(
  frame: Frame,
  kind: K,
  saidView: (deltas: readonly Delta[], choice: number) => C,
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
    text: (index: number, { text, logprobs }: Pick<Piece, "text" | "logprobs">) =>
      `${head}${index},${around[0]}${JSON.stringify(text)}${around[1]},"logprobs":${scored(logprobs)}${tail}`,
    /** Serialized. */
    said: (index: number, deltas: readonly Delta[], logprobs: Piece["logprobs"]) => {
      const said = JSON.stringify(saidView(deltas, index)).slice(1, -1);
      return `${head}${index},${said},"logprobs":${scored(logprobs)}${tail}`;
    },
    end: (index: number, end: ChoiceEnd, { deltas, finishReason }: Ended) => ({
      ...header(frame, kind, [end]),
      choices: [{ index, ...saidView(deltas, index), ...closing(finishReason) }],
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
