/**
 * One choice from its first attempt to its end. When an attempt fails, the next one gets the prompt, the
 * seed and what was already emitted, and continues at that position.
 */
import type { FinishReason, Prompt } from "../protocol/generate.ts";
import { type Candidate, planAttempts } from "../router/plan.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import {
  canContinue,
  type ChoiceDeps,
  type ChoiceRequest,
  emptyProgress,
  type Progress,
  runAttempt,
  type Slice,
} from "./attempt.ts";
import type { ProviderEntry } from "./provider-entry.ts";
import { allBusy, noProvider, notOffered } from "./refusals.ts";
import { Stopwatch } from "./stopwatch.ts";

export interface ChoiceEnd {
  readonly finishReason: FinishReason;
  readonly text: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly slices: readonly Slice[];
  readonly attempts: number;
  readonly ttftMs: number;
  readonly totalMs: number;
}

/** What the choices of one request share. */
export interface Together {
  readonly model: string;
  /** The identity that answers; null: not chosen yet, or any of the name. */
  modelId: string | null;
  readonly allowOtherModels: boolean;
  /** Whether the client has seen nothing until the end, so that an answer may begin anew. */
  readonly restartable: boolean;
}

/** Where a choice of a prompt went, which therefore knows the prompt already. */
export interface Home {
  providerId: string | null;
}

/** Providers that may fail a choice, one after another and without a token between them, before it is given up. */
const fruitlessAttemptsMax = 4;

/** One choice's search for a provider. */
interface Search {
  readonly prompt: Prompt;
  /** Shared with the prompt's other choices; null: there are none. */
  readonly home: Home | null;
  readonly tried: Set<string>;
  readonly ticket: number;
  readonly watch: Stopwatch;
  attempts: number;
  /** Since the last token. */
  fruitlessAttempts: number;
  /** Tokens before the last failure. */
  failedPosition: number;
  /** A provider had no room since the last turn. */
  refused: boolean;
  /** Since the last token. */
  waitedMs: number;
  /** A context of this length was too short. */
  contextTokensMin: number;
  failure: SkeinError | null;
}

/**
 * Yields text as it becomes certain and returns how the choice ended.
 *
 * @throws SkeinError when no attempt can succeed or the request is cancelled
 */
export async function* answerChoice(
  deps: ChoiceDeps,
  together: Together,
  { request, home }: { request: ChoiceRequest; home: Home | null },
  signal: AbortSignal,
): AsyncGenerator<string, ChoiceEnd> {
  const watch = new Stopwatch(deps.clock);
  const progress = emptyProgress();
  const search: Search = {
    prompt: request.prompt,
    home,
    tried: new Set(),
    ticket: deps.waitingRoom.ticket(),
    watch,
    attempts: 0,
    fruitlessAttempts: 0,
    failedPosition: 0,
    refused: false,
    waitedMs: 0,
    contextTokensMin: 0,
    failure: null,
  };
  for (;;) {
    // 1. The best provider that was not tried yet; wait a while when all are full or away.
    const candidate = await nextCandidate(deps, together, search, progress, signal);
    search.tried.add(candidate.providerId);
    const entry = deps.directory.entryOf(candidate.providerId);
    if (entry === undefined) continue;
    try {
      // 2. One attempt, passed through as it comes.
      const end = yield* runAttempt(deps, request, { candidate, entry }, progress, watch, signal);
      deps.metrics.attempted("ok");
      return endOf(progress, watch, end.finishReason, search.attempts + 1);
    } catch (thrown) {
      // 3. Try elsewhere, if that can help and the next provider can continue.
      const error = toSkeinError(thrown);
      deps.metrics.attempted(signal.aborted ? "cancelled" : error.code);
      if (signal.aborted) throw signal.reason instanceof SkeinError ? signal.reason : error;
      if (error.code === "overloaded") {
        search.refused = true;
        continue;
      }
      countFailure(search, progress, error);
      considerRetry(deps, { candidate, entry }, search, progress, together, error);
    }
  }
}

function endOf(
  progress: Progress,
  watch: Stopwatch,
  finishReason: FinishReason,
  attempts: number,
): ChoiceEnd {
  return {
    finishReason,
    text: progress.text,
    promptTokens: progress.promptTokens,
    cachedTokens: progress.cachedTokens,
    outputTokens: progress.position,
    slices: progress.slices,
    attempts,
    ttftMs: watch.firstMs ?? watch.elapsedMs,
    totalMs: watch.elapsedMs,
  };
}

/** An answer that grows may outlive many providers: only failures without a token between them add up. */
function countFailure(search: Search, { position }: Progress, error: SkeinError): void {
  search.attempts += 1;
  search.failure = error;
  if (position > search.failedPosition) search.fruitlessAttempts = search.waitedMs = 0;
  search.fruitlessAttempts += 1;
  search.failedPosition = position;
}

/** Prepares the next attempt after a failed one. @throws SkeinError when there can be none */
function considerRetry(
  deps: ChoiceDeps,
  { candidate, entry }: { candidate: Candidate; entry: ProviderEntry },
  search: Search,
  progress: Progress,
  together: Together,
  error: SkeinError,
): void {
  const { providerId, offer } = candidate;
  deps.log.info({ provider: providerId, code: error.code, position: progress.position }, "attempt failed");
  if (error.code === "context_length_exceeded") {
    // Providers choose how much of a model's context they have memory for.
    search.contextTokensMin = Math.max(search.contextTokensMin, offer.contextTokensMax);
    const others = deps.directory.candidates(together.model, together.modelId);
    if (others.some((other) => other.offer.contextTokensMax > search.contextTokensMin)) return;
    throw error;
  }
  if (error.retry === "never") throw error;
  deps.directory.reportFailure(entry, offer.modelId, error);
  if (search.fruitlessAttempts >= fruitlessAttemptsMax) throw error;
  if (progress.position === 0) return;
  if (canContinue(progress, offer, search.prompt)) {
    // What was emitted belongs to this identity, whatever the request allows.
    together.modelId = offer.modelId;
  } else if (together.restartable || progress.text === "") {
    // Nobody has seen any of it: begin anew, and charge nothing for what is thrown away.
    Object.assign(progress, emptyProgress());
    search.failedPosition = 0;
  } else {
    throw interrupted(error);
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
  together: Together,
  search: Search,
  progress: Progress,
  signal: AbortSignal,
): Promise<Candidate> {
  const { directory, waitingRoom, limits } = deps;
  const { model } = together;
  // Nobody overtakes those who wait already.
  let mayTry = search.waitedMs > 0 || search.attempts > 0 || !waitingRoom.hasLine(model);
  for (;;) {
    if (!together.allowOtherModels) together.modelId ??= directory.identityOf(model);
    const all = directory.candidates(model, together.modelId);
    const fresh = all.filter(
      ({ providerId, offer }) =>
        !search.tried.has(providerId) &&
        offer.contextTokensMax > search.contextTokensMin &&
        canContinue(progress, offer, search.prompt),
    );
    const preferred = fresh.find(
      ({ providerId, cooling }) => providerId === search.home?.providerId && !cooling,
    );
    const [planned] =
      preferred === undefined ? planAttempts(ofSameLength(fresh, progress), deps.random) : [preferred];
    if (planned !== undefined && mayTry) {
      // At once: the other choices of the prompt are looking for a provider in this very moment.
      if (search.home !== null) search.home.providerId ??= planned.providerId;
      return planned;
    }
    // What was begun is worth waiting for: its provider may be starting again.
    if (search.failure === null && directory.offersOf(model).length === 0) throw notOffered(directory, model);
    // Everybody was full or failed: at its next turn even those already tried may do.
    const waitingFor = search.refused || planned !== undefined ? "slot" : "provider";
    const place = { name: model, ticket: search.ticket, waitingFor } as const;
    const leftMs = limits.queueTimeoutMs - search.waitedMs;
    const startMs = search.watch.elapsedMs;
    mayTry = leftMs > 0 && (await waitingRoom.turn(place, leftMs, signal));
    search.waitedMs += search.watch.elapsedMs - startMs;
    search.refused = false;
    if (!mayTry) throw search.failure ?? (all.length > 0 ? allBusy(model, all.length) : noProvider(model));
    search.tried.clear();
  }
}

/** To continue, whoever has as much context as the answer began with: elsewhere it would end sooner. */
function ofSameLength(candidates: readonly Candidate[], { slices }: Progress): readonly Candidate[] {
  const began = slices[0]?.offer.contextTokensMax ?? 0;
  const long = candidates.filter(({ offer }) => offer.contextTokensMax >= began);
  return long.length > 0 ? long : candidates;
}
