/**
 * One choice from its first attempt to its end. When an attempt fails, the next one gets the prompt, the
 * seed and what was already emitted, and continues at that position.
 */
import type { FinishReason, Prompt } from "../protocol/generate.ts";
import type { ModelOffer } from "../protocol/offer.ts";
import type { RoutingHints } from "../router/hints.ts";
import type { Candidate } from "../router/predict.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import {
  canContinue,
  type ChoiceDeps,
  type ChoiceRequest,
  emptyProgress,
  type Progress,
  type Slice,
} from "./attempt.ts";
import {
  type Chosen,
  chooseProvider,
  type Decision,
  isHopeless,
  type Occupied,
  occupy,
  type Wish,
} from "./choose-provider.ts";
import { type Others, runHedged } from "./hedge.ts";
import type { LiveChoice } from "./journal.ts";
import type { Elsewhere, MoveRecord } from "./move.ts";
import type { ProviderEntry } from "./provider-entry.ts";
import { receiptName } from "./receipts.ts";
import { allBusy, noneFits, noProvider, notBackYet, notOffered } from "./refusals.ts";
import type { Held } from "./runner.ts";
import { Stopwatch } from "./stopwatch.ts";
import type { Place } from "./waiting-room.ts";

export interface ChoiceEnd {
  readonly finishReason: FinishReason;
  readonly text: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly slices: readonly Slice[];
  /** What its last receipt is called by; null: it has none. */
  readonly receipt: string | null;
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
  /** Who asks: nobody else's cached prompts count. */
  readonly owner: string;
  /** A line of a batch, which makes room for everybody else. */
  readonly isBatch: boolean;
  readonly hints: RoutingHints;
  /** Whether the client has seen nothing until the end, so that an answer may begin anew. */
  readonly restartable: boolean;
}

export interface Choice {
  /** Among all choices of the request. */
  readonly index: number;
  readonly request: ChoiceRequest;
  readonly home: Home | null;
  /** Where others see how it goes, and what there is of it already; null: nobody looks. */
  readonly live: LiveChoice | null;
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
  choice: Choice,
  signal: AbortSignal,
): AsyncGenerator<string, ChoiceEnd> {
  const { request, index, live } = choice;
  const current = { progress: live?.from?.progress ?? emptyProgress() };
  try {
    return yield* attemptUntilDone(deps, together, choice, current, signal);
  } finally {
    const { parts } = current.progress;
    const answer = { index, prompt: request.prompt, parts };
    deps.receipts?.keep(together.owner, request.requestId, answer);
    const { trust } = together.hints;
    const probabilityMin = trust?.level === "audit" ? trust.probability : 0;
    deps.audits?.committed(together.owner, request.requestId, answer, probabilityMin);
  }
}

async function* attemptUntilDone(
  deps: ChoiceDeps,
  together: Together,
  { request, home, live }: Choice,
  current: { progress: Progress },
  signal: AbortSignal,
): AsyncGenerator<string, ChoiceEnd> {
  const watch = new Stopwatch(deps.clock);
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
    failure: live?.isRestored === true ? notBackYet(together.model) : null,
  };
  for (;;) {
    // 1. The best provider that was not tried yet; wait a while when all are full or away.
    const { progress } = current;
    const to = await nextCandidate(deps, together, search, { request, progress }, signal);
    search.tried.add(to.candidate.providerId);
    const held: Held = { to, progress, moves: 0 };
    if (live !== null) live.held = held;
    try {
      // 2. One attempt, passed through as it comes; a better one may take its place.
      const others = othersFor(deps, together, search, request, held);
      const ended = to.madeRoom === null ? signal : AbortSignal.any([signal, to.madeRoom]);
      const end = yield* runHedged({ deps, request, watch, signal: ended }, held, others);
      deps.metrics.attempted("ok");
      return endOf(held.progress, watch, end.finishReason, search.attempts + held.moves + 1);
    } catch (thrown) {
      // 3. Try elsewhere, if that can help and the next provider can continue.
      const error = toSkeinError(thrown);
      search.attempts += held.moves;
      const hasYielded = to.madeRoom?.aborted === true && !signal.aborted;
      deps.metrics.attempted(signal.aborted ? "cancelled" : hasYielded ? "made_room" : error.code);
      if (signal.aborted) throw signal.reason instanceof SkeinError ? signal.reason : error;
      if (error.code === "overloaded") {
        search.refused = true;
        continue;
      }
      if (hasYielded) {
        search.refused = true;
        keepOrRestart(to.candidate.offer, search, held.progress, together, error);
        continue;
      }
      countFailure(search, held.progress, error);
      considerRetry(deps, held.to, search, held.progress, together, error);
    } finally {
      current.progress = held.progress;
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
    receipt: receiptName(progress.parts),
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
  keepOrRestart(offer, search, progress, together, error);
}

/** @throws SkeinError when what was emitted can be neither continued nor thrown away */
function keepOrRestart(
  offer: ModelOffer,
  search: Search,
  progress: Progress,
  together: Together,
  error: SkeinError,
): void {
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
  { request, progress }: { request: ChoiceRequest; progress: Progress },
  signal: AbortSignal,
): Promise<Occupied> {
  const { directory, waitingRoom, limits } = deps;
  const { model } = together;
  // Nobody overtakes those who wait already.
  let mayTry = search.waitedMs > 0 || search.attempts > 0 || !waitingRoom.hasLine(model, together.isBatch);
  for (;;) {
    if (!together.allowOtherModels) together.modelId ??= directory.identityOf(model);
    const wish = wishOf(together, search, request, progress);
    const decision = chooseProvider(deps, wish);
    const { chosen, refused } = decision;
    const lastResort = (): Occupied | null => deps.cloud?.occupy(wish, decision) ?? null;
    const line = waitingRoom.lineLength(model);
    const better = deps.cloud?.isBetter(line, chosen?.predictedTtftMs ?? null) === true ? lastResort() : null;
    const occupied = better ?? (chosen !== null && mayTry ? occupy(deps, chosen) : null);
    if (occupied !== null) {
      // At once: the other choices of the prompt are looking for a provider in this very moment.
      if (search.home !== null) search.home.providerId ??= occupied.candidate.providerId;
      deps.decisions.decided(request.requestId, decision, occupied.candidate.providerId);
      return occupied;
    }
    const refusal = refusalNow(deps, model, search, decision);
    if (refusal !== null) {
      const cloud = lastResort();
      // What failed is worth waiting for: its provider may be starting again.
      const mayReturn = search.failure !== null && !directory.isOffered(model);
      if (cloud !== null || !mayReturn) return orLastResort(deps, request, decision, cloud, refusal);
    }
    // Everybody was full or failed: at its next turn even those already tried may do.
    if (refused.has("reserved") && search.waitedMs === 0) deps.metrics.keptWaiting();
    const isFull = search.refused || chosen !== null || refused.has("full") || refused.has("reserved");
    const waitingFor = isFull ? "slot" : "provider";
    const place: Place = {
      name: model,
      owner: together.owner,
      ticket: search.ticket,
      waitingFor,
      isBatch: together.isBatch,
    };
    const leftMs = limits.queueTimeoutMs - search.waitedMs;
    const startMs = search.watch.elapsedMs;
    mayTry = leftMs > 0 && (await waitingRoom.turn(place, leftMs, signal));
    search.waitedMs += search.watch.elapsedMs - startMs;
    search.refused = false;
    if (!mayTry) {
      const late = search.failure ?? timeIsOver(deps, model, decision);
      return orLastResort(deps, request, decision, lastResort(), late);
    }
    search.tried.clear();
  }
}

/** What waiting cannot mend; null: it may. */
function refusalNow(
  { directory }: ChoiceDeps,
  model: string,
  search: Search,
  decision: Decision,
): SkeinError | null {
  if (!directory.isOffered(model)) return search.failure ?? notOffered(directory, model);
  return isHopeless(decision) ? (search.failure ?? noneFits(model, decision.refused)) : null;
}

/** @throws the refusal when there is no last resort */
function orLastResort(
  { decisions }: ChoiceDeps,
  { requestId }: ChoiceRequest,
  decision: Decision,
  cloud: Occupied | null,
  refusal: SkeinError,
): Occupied {
  decisions.decided(requestId, decision, cloud?.candidate.providerId ?? null);
  if (cloud === null) throw refusal;
  return cloud;
}

function wishOf(together: Together, search: Search, request: ChoiceRequest, progress: Progress): Wish {
  return {
    ...together,
    request,
    homeId: search.home?.providerId ?? null,
    tried: search.tried,
    contextTokensMin: search.contextTokensMin,
    isResumed: progress.position > 0,
    // To continue, whoever has as much context as the answer began with: elsewhere it would end sooner.
    contextTokensBegan: progress.slices[0]?.offer.contextTokensMax ?? 0,
    canContinue: (offer) => canContinue(progress, offer, search.prompt),
  };
}

/** Who may answer beside the one that does. */
function othersFor(
  deps: ChoiceDeps,
  together: Together,
  search: Search,
  request: ChoiceRequest,
  held: Held,
): Others {
  const second = (): Occupied | null =>
    occupyFree(deps, search, wishOf(together, search, request, emptyProgress()));
  // Who lost a race for the first token may win one for pace; only nobody is asked twice.
  const tried = new Set<string>();
  const elsewhere: Elsewhere = (progress, move, isWorth) => {
    const { offer, providerId } = held.to.candidate;
    const wish = wishOf({ ...together, modelId: offer.modelId }, search, request, progress);
    // It has a provider: what is kept free for those that lost theirs is not for it.
    const other = { ...wish, tried: tried.add(providerId), homeId: null, isResumed: false };
    const found = occupyFree(deps, search, other, { move, isWorth });
    if (found !== null) tried.add(found.candidate.providerId);
    return found;
  };
  return { second, elsewhere };
}

/** Another one with a free slot. An upstream would cost its owner twice. */
function occupyFree(
  deps: ChoiceDeps,
  search: Search,
  wish: Wish,
  how?: { move: MoveRecord; isWorth: (chosen: Chosen) => boolean },
): Occupied | null {
  const decision = chooseProvider(deps, wish);
  const { chosen } = decision;
  if (chosen === null) return null;
  const { cooling, offer, active, providerId } = chosen.candidate;
  if (cooling || offer.engine === "openai" || active >= offer.parallelMax) return null;
  if (how !== undefined && !how.isWorth(chosen)) return null;
  const occupied = occupy(deps, chosen);
  if (occupied === null) return null;
  search.tried.add(providerId);
  deps.decisions.decided(wish.request.requestId, decision, providerId, how?.move);
  return occupied;
}

function timeIsOver(
  { waitingRoom, share }: ChoiceDeps,
  model: string,
  { serving, refused }: Decision,
): SkeinError {
  if (refused.has("too_slow")) return noneFits(model, refused);
  if (serving === 0) return noProvider(model);
  const line = waitingRoom.lineLength(model);
  return allBusy(model, serving, { line, retryAfterSeconds: share.retryAfterSeconds(model, line) });
}
