/** Why one candidate came after another, in one word that is part of the API. */
import type { Scored } from "./plan.ts";
import type { RoutingPolicy } from "./policy.ts";

/** What cost a candidate most against the chosen one; `even` when it was as good and chance decided. */
export type Disadvantage =
  | "network"
  | "queue"
  | "prefill"
  | "pace"
  | "price"
  | "failures"
  | "trust"
  | "cooling"
  | "even";

export function disadvantageOf(other: Scored, chosen: Scored, policy: RoutingPolicy): Disadvantage {
  if (other.candidate.cooling && !chosen.candidate.cooling) return "cooling";
  const a = other.prediction;
  const b = chosen.prediction;
  if (a.scoreMs <= Math.max(b.scoreMs * policy.nearBestFactor, b.scoreMs + policy.nearBestMs)) return "even";
  const readMs = policy.decodeWeight * policy.expectedOutputTokens;
  const differencesMs: readonly (readonly [Disadvantage, number])[] = [
    ["network", a.networkMs - b.networkMs],
    ["queue", a.waitMs - b.waitMs],
    ["prefill", a.prefillMs - b.prefillMs],
    ["pace", readMs * (a.tpotMs - b.tpotMs)],
    ["price", policy.msPerNanoUsd * (a.feeNanoUsd - b.feeNanoUsd)],
    ["failures", policy.failureMs * (other.candidate.failureShare - chosen.candidate.failureShare)],
    ["trust", policy.trustMs * (chosen.candidate.trust - other.candidate.trust)],
  ];
  let worst = differencesMs[0]!;
  for (const difference of differencesMs) if (difference[1] > worst[1]) worst = difference;
  return worst[0];
}
