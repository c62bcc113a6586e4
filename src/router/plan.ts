/** The routing decision, pure: which providers to try for a request, in which order, and why not the others. */
import type { Random } from "../util/random.ts";
import type { RejectReason } from "./hints.ts";
import { defaultPolicy, type RoutingPolicy } from "./policy.ts";
import { type Candidate, predict, type Prediction, type RequestFacts } from "./predict.ts";

export interface Scored {
  readonly candidate: Candidate;
  readonly prediction: Prediction;
}

/** Why the first one is the first. */
export type ChoiceReason =
  | "only_one"
  | "best_score"
  | "prompt_cached"
  | "least_loaded_of_near_best"
  | "explored";

export interface Plan {
  /** In the order to try. */
  readonly attempts: readonly Scored[];
  /** All that could serve it, best score first. */
  readonly scored: readonly Scored[];
  readonly rejected: readonly { readonly providerId: string; readonly reason: RejectReason }[];
  readonly reason: ChoiceReason | null;
}

/** A request of which nothing is known: what providers are compared with each other by. */
export const typicalRequest: RequestFacts = {
  promptTokens: 500,
  outputTokensMax: null,
  ttftMaxMs: null,
  isResumed: false,
};

/**
 * Orders candidates by predicted score. Among the near-best the one that holds the prompt's cache goes first,
 * else the least loaded of a few random ones (power of two choices, Mitzenmacher 2001), so that a popular
 * provider is not stampeded; the others follow by score. Cooling ones come last. The order of `candidates`
 * does not matter.
 */
export function planAttempts(
  candidates: readonly Candidate[],
  request: RequestFacts,
  random: Random,
  policy: RoutingPolicy = defaultPolicy,
): Plan {
  // 1. What each would give.
  const rejected: { providerId: string; reason: RejectReason }[] = [];
  const scored: Scored[] = [];
  for (const candidate of candidates) {
    const prediction = predict(candidate, request, policy);
    const reason = refusal(candidate, prediction, request, policy);
    if (reason === null) scored.push({ candidate, prediction });
    else rejected.push({ providerId: candidate.providerId, reason });
  }
  scored.sort(compare);
  // 2. The first among equals.
  const best = scored[0];
  if (best === undefined) return { attempts: [], scored, rejected, reason: null };
  const near = nearBest(scored, policy);
  const [first, reason] = explore(scored, random, policy) ?? choose(near, request, random, policy);
  // 3. The others after it.
  const attempts = [first, ...scored.filter((other) => other !== first)].slice(0, policy.attemptsMax);
  return { attempts, scored, rejected, reason: scored.length === 1 ? "only_one" : reason };
}

function compare(a: Scored, b: Scored): number {
  return (
    Number(a.candidate.cooling) - Number(b.candidate.cooling) ||
    a.prediction.scoreMs - b.prediction.scoreMs ||
    (a.candidate.providerId < b.candidate.providerId ? -1 : 1)
  );
}

/** Requests that a provider takes at once: all its slots, or what the headroom leaves of them. */
export function slotsFor(parallelMax: number, isResumed: boolean, headroom: number): number {
  return isResumed ? parallelMax : Math.max(1, parallelMax - Math.ceil(headroom * parallelMax));
}

function refusal(
  { offer, active, queued }: Candidate,
  { ttftMs }: Prediction,
  request: RequestFacts,
  policy: RoutingPolicy,
): RejectReason | null {
  const slots = slotsFor(offer.parallelMax, request.isResumed, policy.headroom);
  // Where slots are kept free, waiting at the provider would use them up.
  const room = policy.headroom > 0 && !request.isResumed ? slots : slots * (1 + policy.queuedPerSlotMax);
  const present = active + queued;
  if (present >= Math.ceil(room)) return present < offer.parallelMax ? "reserved" : "full";
  return request.ttftMaxMs !== null && ttftMs > request.ttftMaxMs ? "too_slow" : null;
}

/** The best and those about as good; scores may be negative where trust outweighs time. */
function nearBest(scored: readonly Scored[], policy: RoutingPolicy): readonly Scored[] {
  const best = scored[0]!;
  const { scoreMs } = best.prediction;
  const limitMs = Math.max(scoreMs * policy.nearBestFactor, scoreMs + policy.nearBestMs);
  const end = scored.findIndex(
    ({ candidate, prediction }) =>
      candidate.cooling !== best.candidate.cooling || prediction.scoreMs > limitMs,
  );
  return end < 0 ? scored : scored.slice(0, end);
}

/** Now and then somebody else: what is known of those never chosen grows old. */
function explore(
  scored: readonly Scored[],
  random: Random,
  policy: RoutingPolicy,
): [Scored, ChoiceReason] | null {
  if (scored.length === 1 || random.next() >= policy.exploreShare) return null;
  const other = pick(scored, random);
  const limitMs = policy.exploreFactor * scored[0]!.prediction.scoreMs;
  const isFit = !other.candidate.cooling && other.prediction.scoreMs <= limitMs;
  return isFit && loadOf(other.candidate) < 1 ? [other, "explored"] : null;
}

function choose(
  near: readonly Scored[],
  request: RequestFacts,
  random: Random,
  policy: RoutingPolicy,
): [Scored, ChoiceReason] {
  if (near.length === 1) return [near[0]!, "best_score"];
  const enough = policy.stickyShare * request.promptTokens;
  const cached = near.find(
    ({ candidate: { cachedTokens, active, queued, offer } }) =>
      cachedTokens > 0 && cachedTokens >= enough && active + queued < offer.parallelMax,
  );
  if (cached !== undefined) return [cached, "prompt_cached"];
  let first = pick(near, random);
  for (let i = 1; i < policy.choices; i++) first = lessLoaded(first, pick(near, random));
  return [first, "least_loaded_of_near_best"];
}

function pick(items: readonly Scored[], random: Random): Scored {
  return items[Math.floor(random.next() * items.length)]!;
}

function lessLoaded(a: Scored, b: Scored): Scored {
  return loadOf(b.candidate) < loadOf(a.candidate) ? b : a;
}

export function loadOf({ active, queued, offer }: Candidate): number {
  return (active + queued) / offer.parallelMax;
}
