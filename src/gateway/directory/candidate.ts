import type { ProviderSession } from "../../network/session.ts";
import type { RoutingPolicy } from "../../router/policy.ts";
import type { Candidate } from "../../router/predict.ts";
import type { Offered } from "./provider-entry.ts";
import { neutralTrust } from "../../router/policy.ts";

/** What was measured here; until then what coordinates say, but no less than the first ping has been waiting. */
export function roundTripOf(
  session: ProviderSession,
  { unknownRoundTripMs }: Pick<RoutingPolicy, "unknownRoundTripMs">,
): Pick<Candidate, "roundTripMs" | "roundTripFrom"> {
  if (session.roundTripMs !== null) return { roundTripMs: session.roundTripMs, roundTripFrom: "measured" };
  const estimatedMs = session.estimatedRoundTripMs ?? null;
  const unmeasuredMs = Math.max(estimatedMs ?? unknownRoundTripMs, session.unansweredMs ?? 0);
  return { roundTripMs: unmeasuredMs, roundTripFrom: estimatedMs === null ? "assumed" : "estimated" };
}

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
  const { jitterMs, providerId } = entry.session;
  const { pace, health } = entry.served(offer.modelId);
  return {
    providerId,
    offer,
    active: Math.min(present, offer.parallelMax),
    queued: Math.max(0, present - offer.parallelMax),
    ...roundTripOf(entry.session, policy),
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
