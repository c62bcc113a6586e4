/** Which provider a choice goes to next: the router's decision over the directory's offers. */
import type { ModelOffer } from "../../protocol/offer.ts";
import { type RejectReason, refusedByHints, type RoutingHints } from "../../router/hints.ts";
import { type Plan, planAttempts, type Scored } from "../../router/plan.ts";
import { policyFor } from "../../router/policy.ts";
import type { Candidate, RequestFacts } from "../../router/predict.ts";
import { type PrefixCache, promptKeys, type PromptKeys } from "../../router/prefix-cache.ts";
import type { Random } from "../../util/random.ts";
import type { Clock } from "../../util/clock.ts";
import type { Audits } from "../audits/index.ts";
import type { Directory } from "../directory/directory.ts";
import type { Apart } from "../replication/apart.ts";
import type { FairShare } from "./fair-share.ts";
import type { Offered, ProviderEntry } from "../directory/provider-entry.ts";
import type { ChoiceRequest } from "../attempts/attempt.ts";

/** Refusals that a decision names; the others are only counted. */
const namedMax = 32;

export interface ChooseDeps {
  /** Null: nothing is audited. */
  readonly audits: Audits | null;
  readonly clock: Clock;
  readonly random: Random;
  readonly directory: Directory;
  readonly prefixes: PrefixCache;
  /** Differs from gateway to gateway and from start to start. */
  readonly salt: string;
}

/** What is asked for, as far as it decides who answers. */
export interface Wish {
  readonly model: string;
  /** Null: any identity of the name. */
  readonly modelId: string | null;
  readonly owner: string;
  /** A line of a batch: only on a free slot, and whoever else comes has it instead. */
  readonly isBatch: boolean;
  readonly hints: RoutingHints;
  /** Of a replica: which providers are left for it. */
  readonly apart?: Apart;
  readonly request: ChoiceRequest;
  /** Where other choices of the same prompt went. */
  readonly homeId: string | null;
  readonly tried: ReadonlySet<string>;
  readonly contextTokensMin: number;
  /** Whether it continues an answer that began elsewhere. */
  readonly isResumed: boolean;
  /** Whether a provider has just failed it without a token. */
  readonly hasFailed: boolean;
  /** Offers with as much context go before others; 0: all are alike. */
  readonly contextTokensBegan: number;
  readonly canContinue: (offer: ModelOffer) => boolean;
}

export interface Chosen {
  readonly candidate: Candidate;
  readonly owner: string;
  readonly isBatch: boolean;
  readonly predictedTtftMs: number;
  readonly keys: PromptKeys;
  /** Tokens of the prompt that should be in its KV cache. */
  readonly expectedCachedTokens: number;
}

/** A chosen provider where a place is taken until `leave`. */
export interface Occupied extends Chosen {
  readonly entry: ProviderEntry;
  /** Its first token came: the prompt is read. Idempotent. */
  readonly begun: () => void;
  readonly leave: () => void;
  /** Whether it waits for its first token beside lines of batches. */
  readonly isBeside: boolean;
  /** Aborted when it must make room; null: it need not. */
  readonly madeRoom: AbortSignal | null;
}

/** Takes the place at once: others choose in this very moment, and must see that it is taken. */
export function occupy({ share, directory, clock }: OccupyDeps, chosen: Chosen): Occupied | null {
  const entry = directory.entryOf(chosen.candidate.providerId);
  if (entry === undefined) return null;
  const occupied = occupiedBy(share, chosen, entry);
  if (chosen.isBatch) return occupied;
  entry.makeRoom(chosen.candidate.offer.parallelMax, directory.policy, clock.monotonicMs());
  const leave = (): void => {
    entry.waitedFor(clock.monotonicMs());
    occupied.leave();
  };
  return { ...occupied, leave, isBeside: entry.hasYielding };
}

export function occupiedBy(share: FairShare, chosen: Chosen, entry: ProviderEntry): Occupied {
  const { owner, candidate, keys, expectedCachedTokens, isBatch } = chosen;
  let unreadTokens = Math.max(0, keys.promptTokens - expectedCachedTokens);
  entry.unreadTokens += unreadTokens;
  entry.inFlight += 1;
  share.began(owner);
  const room = isBatch ? new AbortController() : null;
  const forget = room === null ? null : entry.addYielding(() => room.abort());
  const begun = (): void => {
    entry.unreadTokens -= unreadTokens;
    unreadTokens = 0;
  };
  const leave = (): void => {
    begun();
    forget?.();
    entry.inFlight -= 1;
    share.ended(owner, candidate.offer.name);
  };
  return { ...chosen, entry, begun, leave, madeRoom: room?.signal ?? null, isBeside: false };
}

type OccupyDeps = Pick<ChooseDeps, "directory" | "clock"> & { readonly share: FairShare };

export interface Decision {
  readonly chosen: Chosen | null;
  readonly plan: Plan;
  readonly keys: PromptKeys;
  /** How many offers each reason excluded, among those that were looked at. */
  readonly refused: ReadonlyMap<RejectReason, number>;
  readonly refusedNamed: Plan["rejected"];
  /** Offers that can serve the model now. */
  readonly serving: number;
}

export function chooseProvider(deps: ChooseDeps, wish: Wish): Decision {
  const { directory, prefixes, clock, random } = deps;
  const { model, modelId, homeId, request } = wish;
  // 1. Where the beginning of this prompt was sent before.
  const keys = promptKeys(request.prompt, `${deps.salt}\n${wish.owner}\n${modelId ?? model}`);
  const cached = prefixes.lookUp(keys, clock.nowMs());
  // 2. Some of the best that the request accepts, and those.
  const refused = new Map<RejectReason, number>();
  const refusedNamed: { providerId: string; reason: RejectReason }[] = [];
  const note = (providerId: string, reason: RejectReason): void => {
    refused.set(reason, (refused.get(reason) ?? 0) + 1);
    if (refusedNamed.length < namedMax) refusedNamed.push({ providerId, reason });
  };
  const accept = (offered: Offered): boolean => {
    const reason = refusalOf(deps, offered, wish);
    if (reason !== null) note(offered.entry.session.providerId, reason);
    return reason === null;
  };
  const wanted = new Set(cached.keys());
  if (homeId !== null) wanted.add(homeId);
  const shortlistFrom = (contextTokensMin: number): Offered[] => {
    refused.clear();
    refusedNamed.length = 0;
    const isLong = ({ offer }: Offered): boolean => offer.contextTokensMax >= contextTokensMin;
    return directory.shortlist(
      { name: model, modelId, wanted },
      random,
      (offered) => isLong(offered) && accept(offered),
    );
  };
  const long = shortlistFrom(wish.contextTokensBegan);
  const shortlist = long.length > 0 || wish.contextTokensBegan === 0 ? long : shortlistFrom(0);
  // 3. The router's order.
  const candidates = shortlist.map((offered) => {
    const cachedTokens = cached.get(offered.entry.session.providerId);
    const candidate = directory.candidateOf(offered, cachedTokens, wish.isBatch);
    return isUnproved(offered.entry, wish) ? { ...candidate, cooling: true } : candidate;
  });
  const plan = planAttempts(candidates, factsOf(wish, keys), random, policyFor(directory.policy, wish));
  for (const { providerId, reason } of plan.rejected) note(providerId, reason);
  const first = plan.scored.find((scored) => isHome(scored, homeId)) ?? plan.attempts[0];
  const chosen =
    first === undefined
      ? null
      : {
          candidate: first.candidate,
          owner: wish.owner,
          isBatch: wish.isBatch,
          predictedTtftMs: first.prediction.ttftMs,
          keys,
          expectedCachedTokens: cached.get(first.candidate.providerId) ?? 0,
        };
  return { chosen, plan, keys, refused, refusedNamed, serving: directory.servingCount(model, modelId) };
}

/**
 * A probe is passed easily: after a failure, those that have answered real requests go first; where a region is asked for,
 * those that were compared with it.
 */
function isUnproved({ completed, isRegionJudged }: ProviderEntry, { hasFailed, hints }: Wish): boolean {
  return (hasFailed && completed === 0) || (hints.region !== null && !isRegionJudged);
}

function factsOf({ request, hints, isResumed }: Wish, { promptTokens }: PromptKeys): RequestFacts {
  // Who resumes has the first token: what is left must come, however late.
  const ttftMaxMs = isResumed ? null : hints.ttftMaxMs;
  return { promptTokens, outputTokensMax: request.outputTokensMax, ttftMaxMs, isResumed };
}

/** Whether the request itself excludes everybody, so that waiting cannot help. */
export function isHopeless({ refused, serving }: Decision): boolean {
  let excluded = 0;
  for (const [reason, count] of refused) if (forGood.has(reason)) excluded += count;
  return serving > 0 && excluded >= serving;
}

const forGood: ReadonlySet<RejectReason> = new Set([
  "not_allowed",
  "denied",
  "other_region",
  "region_doubtful",
  "not_private",
  "too_expensive",
  "unable",
  "failed_audit",
  "gives_no_receipts",
  "not_exact",
  "not_auditable",
]);

function isHome({ candidate }: Scored, homeId: string | null): boolean {
  return candidate.providerId === homeId && !candidate.cooling;
}

/** Why an offer cannot answer a request, whoever else does and however long it waits. */
export function refusedForGood(
  { directory, audits }: Pick<ChooseDeps, "directory" | "audits">,
  { entry, offer }: Offered,
  hints: RoutingHints,
): RejectReason | null {
  const { providerId } = entry.session;
  if (directory.isExcluded(providerId, offer.modelId)) return "failed_audit";
  const excluded = refusedByHints(providerId, entry.region, offer, hints);
  if (excluded !== null) return excluded;
  return hints.trust?.level === "audit" && audits?.hasModel(offer.modelId) !== true ? "not_auditable" : null;
}

function refusalOf(
  deps: Pick<ChooseDeps, "directory" | "audits">,
  { entry, offer }: Offered,
  wish: Wish,
): RejectReason | null {
  const excluded = refusedForGood(deps, { entry, offer }, wish.hints);
  if (excluded !== null) return excluded;
  const { providerId } = entry.session;
  if (wish.apart?.excludes(providerId, entry.believedRegion, offer) === true) return "another_replica";
  if (wish.tried.has(providerId)) return "tried_already";
  if (offer.contextTokensMax <= wish.contextTokensMin) return "context_too_short";
  return wish.canContinue(offer) ? null : "cannot_continue";
}
