/**
 * The `openai` engine: an OpenAI-compatible server that already runs (Ollama, vLLM, llama-server, LM Studio,
 * a cloud). Its weights and token ids are unknown, so answers cannot be continued elsewhere.
 */
import type { FinishReason, GenerateEvent, GenerateRequest, Prompt } from "../protocol/generate.ts";
import { sha256, toHex, utf8 } from "../util/bytes.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import type { Logger } from "../util/log.ts";
import { Admission } from "./admission.ts";
import { StopMatcher } from "./stop-matcher.ts";
import type { Engine, EngineStatus } from "./port.ts";
import { readChunks } from "./openai-chunks.ts";
import { createUpstream, type Upstream } from "./openai-upstream.ts";

export interface OpenAiEngineOptions {
  /** Base URL, usually ending in /v1. */
  readonly url: string;
  /** The upstream's name of the model; null: its only one. */
  readonly upstreamModel: string | null;
  readonly apiKey: string | null;
  readonly contextTokens: number | null;
  readonly parallel: number;
  /** Part of the identity: nobody else's answers are considered equal. */
  readonly providerId: string;
}

const healthIntervalMs = 5_000;
/** Assumed when the operator does not say: the smallest context in common use. */
const contextTokensDefault = 4_096;

/** @throws SkeinError `upstream_failed`, `invalid_config` when there is nothing to offer */
export async function createOpenAiEngine(
  deps: { clock: Clock; log: Logger; fetch: typeof fetch },
  options: OpenAiEngineOptions,
): Promise<Engine> {
  const { clock } = deps;
  const upstream = createUpstream(deps, options);
  const upstreamModel = await chooseModel(upstream, options);
  const identity = await sha256(
    utf8(["upstream", options.providerId, options.url, upstreamModel].join("\0")),
  );
  const admission = new Admission(options.parallel);
  const listeners = new Set<(status: EngineStatus) => void>();
  const closed = new AbortController();
  let status: EngineStatus = { state: "ready" };

  function become(next: EngineStatus): void {
    if (next.state === status.state) return;
    status = next;
    for (const listener of listeners) listener(next);
  }

  async function watch(): Promise<void> {
    try {
      await upstream.models();
      become({ state: "ready" });
    } catch (error) {
      become({ state: "restarting", reason: toSkeinError(error).message });
    }
    if (!closed.signal.aborted) clock.schedule(healthIntervalMs, () => void watch());
  }
  clock.schedule(healthIntervalMs, () => void watch());

  async function* generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    if (request.emitted.tokenIds.length > 0 || request.emitted.text !== "") {
      throw new SkeinError("invalid_request", "This engine cannot continue an answer.", {
        retry: "elsewhere",
      });
    }
    const askedMs = clock.monotonicMs();
    const either = AbortSignal.any([signal, closed.signal]);
    const leave = await admission.enter(either);
    try {
      yield* answer(request, Math.round(clock.monotonicMs() - askedMs), either);
    } finally {
      leave();
    }
  }

  async function* answer(
    request: GenerateRequest,
    queueMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent> {
    const startMs = clock.monotonicMs();
    const limit = request.outputTokensMax ?? Number.POSITIVE_INFINITY;
    const abort = new AbortController();
    const body = await upstream.open(upstreamModel, request, AbortSignal.any([signal, abort.signal]));
    const stop = new StopMatcher(request.stop);
    let position = 0;
    let firstMs: number | null = null;
    let finishReason: FinishReason | null = null;
    let usage: { prompt_tokens: number; completion_tokens: number } | null = null;
    const estimatedTokens = estimateTokens(request.prompt);
    yield { type: "start", promptTokens: estimatedTokens, cachedTokens: 0 };
    try {
      for await (const chunk of readChunks(body, signal)) {
        usage = chunk.usage ?? usage;
        const choice = chunk.choices?.[0];
        const content = choice?.delta?.content ?? choice?.text ?? "";
        if (content !== "") {
          firstMs ??= clock.monotonicMs();
          const { text, stopped } = stop.push(content);
          // Usually a piece is a token; pieces beyond the limit are text without a token of their own.
          const tokenCount = position < limit ? 1 : 0;
          yield { type: "tokens", position, tokenIds: [], tokenCount, text };
          position += tokenCount;
          if (stopped) finishReason = "stop";
        }
        if (choice?.finish_reason != null) {
          finishReason = choice.finish_reason === "length" ? "length" : "stop";
        }
      }
    } finally {
      abort.abort();
    }
    if (finishReason === null) {
      throw new SkeinError("upstream_failed", "The upstream's answer ended too early.");
    }
    const rest = stop.flush();
    if (rest !== "") yield { type: "tokens", position, tokenIds: [], tokenCount: 0, text: rest };
    const endMs = clock.monotonicMs();
    yield {
      type: "end",
      finishReason,
      promptTokens: usage?.prompt_tokens ?? estimatedTokens,
      outputTokens: Math.min(usage?.completion_tokens ?? position, limit),
      timings: {
        queueMs,
        prefillMs: Math.round((firstMs ?? endMs) - startMs),
        decodeMs: Math.round(endMs - (firstMs ?? endMs)),
      },
    };
  }

  return {
    kind: "openai",
    model: {
      modelId: `upstream-sha256:${toHex(identity)}`,
      name: upstreamModel,
      contextTokensMax: options.contextTokens ?? contextTokensDefault,
      parallelMax: options.parallel,
      trustTier: "unverified",
      resumable: false,
    },
    generate,
    countPromptTokens: async (prompt) => estimateTokens(prompt),
    status: () => status,
    load: () => admission.load(),
    onStatus(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      const error = new SkeinError("engine_unavailable", "The engine was closed.");
      closed.abort(error);
      admission.refuseAll(error);
    },
  };
}

async function chooseModel(upstream: Upstream, options: OpenAiEngineOptions): Promise<string> {
  const served = await upstream.models();
  const { upstreamModel, url } = options;
  if (upstreamModel !== null && (served.length === 0 || served.includes(upstreamModel))) return upstreamModel;
  if (upstreamModel === null && served.length === 1) return served[0]!;
  const list = served.length === 0 ? "It lists none." : `It serves: ${served.slice(0, 20).join(", ")}.`;
  throw new SkeinError(
    "invalid_config",
    upstreamModel === null
      ? `${url} serves more than one model, or none. ${list}`
      : `${url} does not serve '${upstreamModel}'. ${list}`,
    { hint: "Choose one with --upstream-model." },
  );
}

/** Characters per token of English text in common vocabularies; an estimate that errs on the high side. */
const charsPerToken = 3;
const tokensPerMessage = 8;

/** Without the upstream's tokenizer only an upper estimate can be given. */
function estimateTokens(prompt: Prompt): number {
  switch (prompt.kind) {
    case "tokens":
      return prompt.tokenIds.length;
    case "text":
      return Math.ceil(prompt.text.length / charsPerToken);
    case "chat":
      return prompt.messages.reduce(
        (sum, { content }) => sum + tokensPerMessage + Math.ceil(content.length / charsPerToken),
        0,
      );
  }
}
