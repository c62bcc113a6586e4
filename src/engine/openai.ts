/**
 * The `openai` engine: an OpenAI-compatible server that already runs (Ollama, vLLM, llama-server, LM Studio,
 * a cloud). Its weights and token ids are unknown, so answers cannot be continued elsewhere; the same upstream can be asked to go on
 * with the text of an answer that it left off: behind a prompt of text always, in chats where it was found to do so.
 */
import type { Embedded, EmbedRequest } from "../protocol/embed.ts";
import type { Constraint, GenerateEvent, GenerateRequest } from "../protocol/generate.ts";
import { continuesByText } from "../protocol/offer.ts";
import { sha256, toHex, utf8 } from "../util/bytes.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import type { Logger } from "../util/log.ts";
import { throwIfAborted } from "../util/abort.ts";
import { Admission } from "./admission.ts";
import { type AnswerLimits, answerLimits, estimateTokens, streamAnswer } from "./openai-answer.ts";
import { findContinuation } from "./openai-continuation.ts";
import { createUpstream, type Upstream } from "./openai-upstream.ts";
import type { Engine, EngineStatus } from "./port.ts";

export interface OpenAiEngineOptions {
  /** Base URL, usually ending in /v1. */
  readonly url: string;
  /** The upstream's name of the model; null: its only one. */
  readonly upstreamModel: string | null;
  readonly apiKey: string | null;
  readonly contextTokens: number | null;
  readonly parallel: number;
  /** Whether chats that were cut are gone on with by their text; refused when the upstream cannot. */
  readonly resumeByText?: boolean;
  /** Part of the identity: nobody else's answers are considered equal. */
  readonly providerId: string;
  /** Whether it may begin while the upstream does not answer, and be there once it does. Needs `upstreamModel`. */
  readonly mayBeAway?: boolean;
  /** Other bounds than the usual ones. */
  readonly limits?: Partial<AnswerLimits>;
}

const healthIntervalMs = 5_000;
/** Assumed when the operator does not say: the smallest context in common use. */
const contextTokensDefault = 4_096;

/** @throws SkeinError `upstream_failed`, `invalid_config` when there is nothing to offer */
export async function createOpenAiEngine(
  deps: { clock: Clock; log: Logger; fetch: typeof fetch },
  options: OpenAiEngineOptions,
): Promise<Engine> {
  const { clock, log } = deps;
  const upstream = createUpstream(deps, options);
  let status: EngineStatus = { state: "ready" };
  const upstreamModel = await chooseModel(upstream, options).catch((thrown: unknown) => {
    const error = toSkeinError(thrown);
    const canWait = options.mayBeAway === true && options.upstreamModel !== null;
    if (!canWait || error.code === "invalid_config") throw error;
    log.warn({ url: options.url, reason: error.message }, "upstream does not answer");
    status = { state: "restarting", reason: error.message };
    return options.upstreamModel;
  });
  const modelId = await identityOf(options, upstreamModel);
  const limits = { ...answerLimits, ...options.limits };
  if (options.resumeByText === true) {
    upstream.continueChatsBy(await findContinuation(upstream, upstreamModel, limits));
  }
  const continuesText = options.resumeByText === true ? "all" : "completions";
  const admission = new Admission(options.parallel);
  const listeners = new Set<(status: EngineStatus) => void>();
  const closed = new AbortController();

  function become(next: EngineStatus): void {
    if (next.state === status.state) return;
    status = next;
    if (next.state === "ready") log.info({ url: options.url }, "upstream answers again");
    else log.warn({ url: options.url, reason: next.reason }, "upstream does not answer");
    for (const listener of listeners) listener(next);
  }

  async function watch(): Promise<void> {
    try {
      await upstream.models(closed.signal);
      become({ state: "ready" });
    } catch (error) {
      if (!closed.signal.aborted) become({ state: "restarting", reason: toSkeinError(error).message });
    }
    if (!closed.signal.aborted) clock.schedule(healthIntervalMs, () => void watch());
  }
  clock.schedule(healthIntervalMs, () => void watch());

  async function* generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    const { emitted, prompt, constraint, logprobs } = request;
    if (logprobs !== null || (constraint !== null && isGrammar(constraint))) {
      throw new SkeinError(
        "unsupported_parameter",
        "This engine knows no log probabilities and no grammars.",
      );
    }
    // Who stopped while it thought has said nothing yet that could be gone on with.
    const canContinue = continuesByText({ continuesText }, prompt) && !isThinking(emitted.text);
    if (emitted.tokenIds.length > 0 || (emitted.text !== "" && !canContinue)) {
      throw new SkeinError("invalid_request", "This engine cannot continue an answer.", {
        retry: "elsewhere",
      });
    }
    const askedMs = clock.monotonicMs();
    const either = AbortSignal.any([signal, closed.signal]);
    const leave = await admission.enter(either);
    try {
      const queueMs = Math.round(clock.monotonicMs() - askedMs);
      const outer = { signal: either, queueMs, limits };
      yield* streamAnswer({ clock, upstream }, upstreamModel, request, outer);
    } finally {
      leave();
    }
  }

  async function embed(request: EmbedRequest, signal: AbortSignal): Promise<Embedded> {
    const either = AbortSignal.any([signal, closed.signal]);
    const leave = await admission.enter(either);
    try {
      return await upstream.embed(upstreamModel, request, either);
    } finally {
      leave();
    }
  }

  return {
    kind: "openai",
    model: {
      modelId,
      name: upstreamModel,
      contextTokensMax: options.contextTokens ?? contextTokensDefault,
      parallelMax: options.parallel,
      trustTier: "unverified",
      resumable: false,
      forwardsPrompts: true,
      continuesText,
      // Those it refuses, it refuses with a reason.
      features: ["json", "embeddings", "infill", "tools"],
      toolFormat: "hermes",
      thoughtFormat: "tags",
    },
    generate,
    embed,
    async countPromptTokens(prompt, signal) {
      throwIfAborted(signal);
      return estimateTokens(prompt);
    },
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

function isThinking(text: string): boolean {
  return text.startsWith("<think>") && !text.includes("</think>");
}

/** It has neither of the forms that an upstream understands. */
function isGrammar({ responseFormat, toolChoice }: Constraint): boolean {
  return responseFormat === null && toolChoice === undefined;
}

/** Of provider, server and name: nobody else's model is ever considered equal. */
async function identityOf({ providerId, url }: OpenAiEngineOptions, upstreamModel: string): Promise<string> {
  const hash = await sha256(
    utf8(["upstream", providerId, url.replace(/\/+$/, ""), upstreamModel].join("\0")),
  );
  return `upstream-sha256:${toHex(hash)}`;
}

async function chooseModel(upstream: Upstream, { upstreamModel, url }: OpenAiEngineOptions): Promise<string> {
  const served = await upstream.models(new AbortController().signal);
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
