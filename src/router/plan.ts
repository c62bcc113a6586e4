/**
 * The routing decision, pure: which providers to try for a request, in which order. Scores are predicted
 * milliseconds to the first token; lower is better.
 */
import type { ModelOffer } from "../protocol/offer.ts";
import type { Random } from "../util/random.ts";

/** One provider that could serve the request, with what is known about it. */
export interface Candidate {
  readonly providerId: string;
  readonly offer: ModelOffer;
  /** Requests there now, and waiting: what it reported, plus what was sent since. */
  readonly active: number;
  readonly queued: number;
  readonly roundTripMs: number | null;
  /** Smoothed time to first token of earlier answers; null when unknown. */
  readonly ttftMs: number | null;
  /** Smoothed time of whole answers, for the wait in a full provider's queue; null when unknown. */
  readonly answerMs: number | null;
  /** Failed lately and not yet proved well again. */
  readonly cooling: boolean;
}

export interface RoutingPolicy {
  /** Assumed time to first token of a provider that was never measured: tried early, trusted late. */
  readonly unknownTtftMs: number;
  /** Assumed time of an answer, for the queue of a provider that was never measured. */
  readonly unknownAnswerMs: number;
  /** Candidates within this factor of the best are considered equally good… */
  readonly nearBestFactor: number;
  /** …as are those within this many milliseconds. */
  readonly nearBestMs: number;
  /** Providers tried for one request. */
  readonly attemptsMax: number;
}

export const defaultPolicy: RoutingPolicy = {
  unknownTtftMs: 100,
  unknownAnswerMs: 2_000,
  nearBestFactor: 1.25,
  nearBestMs: 5,
  attemptsMax: 4,
};

/** Predicted milliseconds until the first token: the way there and back, the queue, the prefill. */
export function predictTtftMs(candidate: Candidate, policy: RoutingPolicy = defaultPolicy): number {
  const { offer, active, queued } = candidate;
  const ahead = Math.max(0, active + queued - offer.parallelMax + 1);
  const waitMs = (ahead / offer.parallelMax) * (candidate.answerMs ?? policy.unknownAnswerMs);
  // Batching shares the machine: a busy provider is slower even while slots are free.
  const crowding = 1 + active / offer.parallelMax;
  return (candidate.roundTripMs ?? 0) + waitMs + (candidate.ttftMs ?? policy.unknownTtftMs) * crowding;
}

/**
 * Orders candidates: among the near-best the less loaded of two random ones goes first (power of two
 * choices, Mitzenmacher 2001), so that a popular provider is not stampeded; the others follow by score.
 * Cooling ones come last. The order of `candidates` does not matter.
 */
export function planAttempts(
  candidates: readonly Candidate[],
  random: Random,
  policy: RoutingPolicy = defaultPolicy,
): Candidate[] {
  const scored = candidates
    .map((candidate) => ({ candidate, scoreMs: predictTtftMs(candidate, policy) }))
    .toSorted(
      (a, b) =>
        Number(a.candidate.cooling) - Number(b.candidate.cooling) ||
        a.scoreMs - b.scoreMs ||
        (a.candidate.providerId < b.candidate.providerId ? -1 : 1),
    );
  const best = scored[0];
  if (best === undefined) return [];
  const limitMs = Math.max(best.scoreMs * policy.nearBestFactor, best.scoreMs + policy.nearBestMs);
  const near = scored.filter(
    ({ candidate, scoreMs }) => candidate.cooling === best.candidate.cooling && scoreMs <= limitMs,
  );
  const first = lessLoaded(pick(near, random), pick(near, random));
  return [first, ...scored.filter((other) => other !== first)]
    .slice(0, policy.attemptsMax)
    .map(({ candidate }) => candidate);
}

type Scored = { readonly candidate: Candidate; readonly scoreMs: number };

function pick(items: readonly Scored[], random: Random): Scored {
  return items[Math.floor(random.next() * items.length)]!;
}

function lessLoaded(a: Scored, b: Scored): Scored {
  const load = ({ candidate }: Scored): number =>
    (candidate.active + candidate.queued) / candidate.offer.parallelMax;
  return load(b) < load(a) ? b : a;
}
