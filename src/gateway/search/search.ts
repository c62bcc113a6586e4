/** One choice's search for a provider: who is asked, who else may be, and how long it waits. */
import type { Prompt } from "../../protocol/generate.ts";
import type { RoutingHints } from "../../router/hints.ts";
import type { SkeinError } from "../../util/errors.ts";
import {
  canContinue,
  type ChoiceDeps,
  type ChoiceRequest,
  emptyProgress,
  type Progress,
} from "../attempts/attempt.ts";
import {
  type Chosen,
  chooseProvider,
  type Decision,
  isHopeless,
  type Occupied,
  occupy,
  type Wish,
} from "./choose-provider.ts";
import type { Others } from "../attempts/hedge.ts";
import type { Elsewhere, MoveRecord } from "../attempts/move.ts";
import { allBusy, noneFits, noProvider, notOffered } from "./refusals.ts";
import type { Held } from "../attempts/runner.ts";
import type { Stopwatch } from "../attempts/stopwatch.ts";
import type { Apart } from "../replication/apart.ts";
import type { Place } from "./waiting-room.ts";

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
  /** Of a replica: which providers are left for it. */
  readonly apart?: Apart;
  /** Whether the client has seen nothing until the end, so that an answer may begin anew. */
  readonly restartable: boolean;
}

/** Where a choice of a prompt went, which therefore knows the prompt already. */
export interface Home {
  providerId: string | null;
}

/** One choice's search for a provider. */
export interface Search {
  readonly prompt: Prompt;
  /** Shared with the prompt's other choices; null: there are none. */
  readonly home: Home | null;
  readonly tried: Set<string>;
  readonly ticket: number;
  readonly watch: Stopwatch;
  attempts: number;
  /** Since the last token; providers that vanished count less. */
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

/** The best provider, once one has room. @throws SkeinError when there is none, or none in time */
export async function nextCandidate(
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
  together.apart?.searches(progress);
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
      together.apart?.take(occupied.candidate.providerId);
      deps.decisions.decided(request.requestId, decision, occupied.candidate.providerId);
      // A batch that comes back finds many slots at once, of which nobody else tells those who wait.
      if (together.isBatch && search.waitedMs > 0) waitingRoom.wake();
      return occupied;
    }
    const refusal = refusalNow(deps, together, search, wish, decision);
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
    const leftMs = waitMaxMs(limits, wish) - search.waitedMs;
    const startMs = search.watch.elapsedMs;
    mayTry = leftMs > 0 && (await waitingRoom.turn(place, leftMs, signal));
    search.waitedMs += search.watch.elapsedMs - startMs;
    search.refused = false;
    if (!mayTry) {
      const late = search.failure ?? timeIsOver(deps, together, decision);
      return orLastResort(deps, request, decision, lastResort(), late);
    }
    search.tried.clear();
  }
}

/** Nobody who wants a first token soon waits longer than that for somebody who gives it. */
function waitMaxMs({ queueTimeoutMs }: ChoiceDeps["limits"], { hints, isResumed }: Wish): number {
  return Math.min(queueTimeoutMs, isResumed ? queueTimeoutMs : (hints.ttftMaxMs ?? queueTimeoutMs));
}

/** What waiting cannot mend; null: it may. */
function refusalNow(
  { directory, cloud }: ChoiceDeps,
  { model, hints: { needs } }: Together,
  search: Search,
  wish: Wish,
  decision: Decision,
): SkeinError | null {
  if (!directory.isOffered(model)) {
    return search.failure ?? cloud?.whyNot(wish) ?? notOffered(directory, model);
  }
  return isHopeless(decision) ? (search.failure ?? noneFits(model, decision.refused, needs)) : null;
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
    hasFailed: search.fruitlessAttempts > 0,
    // To continue, whoever has as much context as the answer began with: elsewhere it would end sooner.
    contextTokensBegan: progress.slices[0]?.offer.contextTokensMax ?? 0,
    canContinue: (offer) => canContinue(progress, offer, search.prompt),
  };
}

/** Who may answer beside the one that does. */
export function othersFor(
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
  wish.apart?.take(providerId);
  deps.decisions.decided(wish.request.requestId, decision, providerId, how?.move);
  return occupied;
}

function timeIsOver(
  { waitingRoom, share }: ChoiceDeps,
  { model, hints: { needs } }: Together,
  { serving, refused }: Decision,
): SkeinError {
  if (refused.has("too_slow")) return noneFits(model, refused, needs);
  if (serving === 0) return noProvider(model);
  const line = waitingRoom.lineLength(model);
  return allBusy(model, serving, { line, retryAfterSeconds: share.retryAfterSeconds(model, line) });
}
