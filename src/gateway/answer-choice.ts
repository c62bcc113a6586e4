/**
 * One choice from its first attempt to its end. When an attempt fails, the next one gets the prompt, the
 * seed and what was already emitted, and continues at that position.
 */
import type { FinishReason, GenerateEvent, GenerateRequest } from "../protocol/generate.ts";
import type { ModelOffer } from "../protocol/offer.ts";
import { type Candidate, planAttempts } from "../router/plan.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import type { Directory } from "./directory.ts";
import type { GatewayMetrics } from "./metrics.ts";
import type { GatewayDeps, GatewayLimits } from "./options.ts";
import { Stopwatch } from "./stopwatch.ts";

/** What one provider did for a choice: the unit of charging. */
export interface Slice {
  readonly providerId: string;
  readonly offer: ModelOffer;
  readonly outputTokens: number;
  /** Engine time: the provider's claim, but never more than was measured here. */
  readonly durationMs: number;
}

export interface ChoiceEnd {
  readonly finishReason: FinishReason;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly slices: readonly Slice[];
  readonly attempts: number;
  readonly ttftMs: number;
  readonly totalMs: number;
}

export interface ChoiceDeps extends GatewayDeps {
  readonly directory: Directory;
  readonly metrics: GatewayMetrics;
  readonly limits: GatewayLimits;
}

export interface ChoiceOptions {
  readonly model: string;
  readonly allowOtherModels: boolean;
  /** A provider that another choice of the same request went to, which has read the prompt already. */
  readonly preferredProviderId: string | null;
  /** Tells the others. */
  readonly onProvider: (providerId: string) => void;
}

const retryPauseMs = 200;
/** Providers tried for one choice before the request is given up. */
const attemptsMax = 4;

/** Everything a choice accumulates over its attempts. */
interface Progress {
  modelId: string | null;
  tokenIds: number[];
  text: string;
  /** Whether `tokenIds` is all there is, so that another provider can continue. */
  idsComplete: boolean;
  position: number;
  promptTokens: number;
  cachedTokens: number;
  slices: Slice[];
  attempts: number;
}

/**
 * Yields text as it becomes certain and returns how the choice ended.
 *
 * @throws SkeinError when no attempt can succeed or the request is cancelled
 */
export async function* answerChoice(
  deps: ChoiceDeps,
  options: ChoiceOptions,
  request: Omit<GenerateRequest, "modelId" | "emitted">,
  signal: AbortSignal,
): AsyncGenerator<string, ChoiceEnd> {
  const watch = new Stopwatch(deps.clock);
  const progress: Progress = {
    modelId: options.allowOtherModels ? null : deps.directory.identityOf(options.model),
    tokenIds: [],
    text: "",
    idsComplete: true,
    position: 0,
    promptTokens: 0,
    cachedTokens: 0,
    slices: [],
    attempts: 0,
  };
  const tried = new Set<string>();
  for (;;) {
    // 1. The best provider that was not tried yet; wait a little while all are full or away.
    const candidate = await nextCandidate(deps, options, progress, tried, watch, signal);
    tried.add(candidate.providerId);
    options.onProvider(candidate.providerId);
    progress.attempts += 1;
    try {
      // 2. One attempt, passed through as it comes.
      const end = yield* runAttempt(deps, request, candidate, progress, watch, signal);
      return {
        finishReason: end.finishReason,
        promptTokens: progress.promptTokens,
        cachedTokens: progress.cachedTokens,
        outputTokens: end.outputTokens,
        slices: progress.slices,
        attempts: progress.attempts,
        ttftMs: watch.firstMs ?? watch.elapsedMs,
        totalMs: watch.elapsedMs,
      };
    } catch (thrown) {
      // 3. Try elsewhere, if that can help and the next provider can continue.
      const error = toSkeinError(thrown, "provider_failed");
      if (signal.aborted) throw signal.reason instanceof SkeinError ? signal.reason : error;
      deps.metrics.attemptFailed(error.code);
      deps.log.info(
        { provider: candidate.providerId, code: error.code, position: progress.position },
        "attempt failed",
      );
      if (error.retry === "never") throw error;
      if (error.code !== "overloaded") deps.directory.reportFailure(candidate.providerId, error);
      if (progress.attempts >= attemptsMax) throw error;
      if (progress.position > 0 && !(progress.idsComplete && candidate.offer.resumable))
        throw interrupted(error);
      // What was emitted belongs to this identity, whatever the request allows.
      if (progress.position > 0) progress.modelId = candidate.offer.modelId;
    }
  }
}

function interrupted(error: SkeinError): SkeinError {
  return new SkeinError("provider_failed", `The answer was interrupted: ${error.message}`, {
    hint: "This provider's engine cannot hand an answer over; ask again.",
    retry: "never",
    cause: error,
  });
}

async function nextCandidate(
  deps: ChoiceDeps,
  options: ChoiceOptions,
  progress: Progress,
  tried: Set<string>,
  watch: Stopwatch,
  signal: AbortSignal,
): Promise<Candidate> {
  const { directory, limits } = deps;
  const startMs = watch.elapsedMs;
  for (;;) {
    progress.modelId ??= options.allowOtherModels ? null : directory.identityOf(options.model);
    const all = directory.candidates(options.model, progress.modelId);
    const fresh = all.filter(
      ({ providerId, offer }) => !tried.has(providerId) && (progress.position === 0 || offer.resumable),
    );
    const preferred = fresh.find(
      ({ providerId, cooling }) => providerId === options.preferredProviderId && !cooling,
    );
    const [planned] = preferred === undefined ? planAttempts(fresh, deps.random) : [preferred];
    if (planned !== undefined) return planned;
    if (!directory.wasKnown(options.model) && directory.offersOf(options.model).length === 0) {
      throw modelNotFound(directory, options.model);
    }
    // Everybody was full or failed: after a pause even those already tried may do.
    if (watch.elapsedMs - startMs > limits.queueTimeoutMs) throw nobody(options.model, all.length);
    await watch.pause(retryPauseMs, signal);
    tried.clear();
  }
}

/** One try at one provider. Returns its `end` event. */
async function* runAttempt(
  deps: ChoiceDeps,
  request: Omit<GenerateRequest, "modelId" | "emitted">,
  candidate: Candidate,
  progress: Progress,
  watch: Stopwatch,
  signal: AbortSignal,
): AsyncGenerator<string, Extract<GenerateEvent, { type: "end" }>> {
  const entry = deps.directory.entryOf(candidate.providerId);
  if (entry === undefined) throw new SkeinError("provider_disconnected", "The provider just left.");
  const { limits, clock } = deps;
  const startPosition = progress.position;
  const attempt = new Stopwatch(clock);
  const guard = attempt.guard(signal);
  entry.inFlight += 1;
  let claimedMs: number | null = null;
  try {
    guard.limit(limits.firstTokenTimeoutMs, "send its first token");
    const emitted = { tokenIds: progress.tokenIds, text: progress.text };
    const events = entry.session.generate(
      { ...request, modelId: candidate.offer.modelId, emitted },
      guard.signal,
    );
    for await (const event of events) {
      if (event.type === "start") {
        progress.promptTokens = event.promptTokens;
        if (startPosition === 0) progress.cachedTokens = event.cachedTokens;
        continue;
      }
      if (event.type === "end") {
        claimedMs = event.timings.prefillMs + event.timings.decodeMs;
        progress.promptTokens = event.promptTokens;
        progress.position = event.outputTokens;
        entry.learn({
          ttftMs: (attempt.firstMs ?? attempt.elapsedMs) - event.timings.queueMs,
          answerMs: attempt.elapsedMs - event.timings.queueMs,
          outputTokens: event.outputTokens - startPosition,
        });
        return event;
      }
      attempt.markFirst();
      watch.markFirst();
      take(progress, event);
      guard.limit(null, "");
      if (event.text !== "") yield event.text;
      // Only the provider's silence counts, not the time that the client took to read.
      guard.limit(limits.tokenTimeoutMs, "send its next token");
    }
    throw new SkeinError("provider_failed", "The provider's answer had no end.");
  } finally {
    guard.release();
    entry.inFlight -= 1;
    const outputTokens = progress.position - startPosition;
    if (outputTokens > 0 || claimedMs !== null) {
      const durationMs = Math.floor(Math.min(claimedMs ?? Number.POSITIVE_INFINITY, attempt.elapsedMs));
      progress.slices.push({
        providerId: candidate.providerId,
        offer: candidate.offer,
        outputTokens,
        durationMs,
      });
    }
  }
}

function take(progress: Progress, event: Extract<GenerateEvent, { type: "tokens" }>): void {
  for (const id of event.tokenIds) progress.tokenIds.push(id);
  if (event.tokenIds.length !== event.tokenCount) progress.idsComplete = false;
  progress.position += event.tokenCount;
  progress.text += event.text;
}

function modelNotFound(directory: Directory, model: string): SkeinError {
  const names = [
    ...new Set(directory.entries.flatMap((entry) => entry.models.map(({ name }) => name))),
  ].sort();
  const served =
    names.length === 0 ? "No provider has joined yet." : `Served now: ${names.slice(0, 10).join(", ")}.`;
  return new SkeinError(
    "model_not_found",
    `The model '${model.slice(0, 100)}' is not served by any provider. ${served}`,
    {
      param: "model",
    },
  );
}

function nobody(model: string, candidates: number): SkeinError {
  if (candidates > 0) {
    return new SkeinError("overloaded", `All ${candidates} providers of '${model}' are busy.`, {
      hint: "Try again in a few seconds.",
    });
  }
  return new SkeinError("no_provider", `No provider of '${model}' is available now.`, {
    hint: "It was served before and may come back; `skein providers` shows what is there.",
  });
}
