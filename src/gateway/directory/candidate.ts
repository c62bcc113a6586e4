import type { RoutingPolicy } from "../../router/policy.ts";
import type { Candidate } from "../../router/predict.ts";
import type { Offered } from "./directory.ts";
import { neutralTrust } from "../../router/policy.ts";

/**
 * An offer without its failures.
 *
 * @param expectedTokens of the prompt that its cache should hold
 * @param present requests there that are in the way
 */
export function candidateOf(
  { entry, offer }: Offered,
  policy: RoutingPolicy,
  expectedTokens = 0,
  present: number = entry.present,
): Candidate {
  const { roundTripMs, jitterMs, providerId } = entry.session;
  const { pace, health } = entry.served(offer.modelId);
  return {
    providerId,
    offer,
    active: Math.min(present, offer.parallelMax),
    queued: Math.max(0, present - offer.parallelMax),
    roundTripMs,
    jitterMs: jitterMs ?? null,
    ttftMs: pace.ttftMs,
    prefillTokens: pace.prefillTokens,
    prefillMsPerToken: pace.prefillMsPerToken(policy.unknownPrefillMsPerToken),
    tpotMs: pace.tpotMs,
    answerMs: pace.answerMs,
    failureShare: 0,
    trust: neutralTrust,
    cachedTokens: expectedTokens * pace.cacheShare,
    aheadTokens: entry.unreadTokens,
    cooling: health.state === "cooling",
  };
}
