/** What a request would meet at a provider: milliseconds and money, from what was measured. */
import type { ModelOffer } from "../protocol/offer.ts";
import { neutralTrust, type RoutingPolicy } from "./policy.ts";

/**
 * Where a round trip is from: this gateway's own heartbeats, the coordinate in the provider's offer (router/coordinates.ts), or
 * nowhere.
 */
export type RoundTripFrom = "measured" | "estimated" | "assumed";

/** One provider that could serve the request, with what is known about it. */
export interface Candidate {
  readonly providerId: string;
  readonly offer: ModelOffer;
  /** Requests there now, and waiting: what it reported, plus what was sent since. */
  readonly active: number;
  readonly queued: number;
  readonly roundTripMs: number;
  readonly roundTripFrom: RoundTripFrom;
  /** Null: not measured. */
  readonly jitterMs: number | null;
  /** Smoothed time to first token of earlier answers, their mean prompt length, and the slope over it. */
  readonly ttftMs: number | null;
  readonly prefillTokens: number;
  readonly prefillMsPerToken: number;
  readonly tpotMs: number | null;
  /** Smoothed time of whole answers, for the wait in a full provider's queue; null when unknown. */
  readonly answerMs: number | null;
  /** Smoothed share of attempts that failed. */
  readonly failureShare: number;
  /** 0 to 1; 0.5 while nothing is known. */
  readonly trust: number;
  /** Tokens of this request's prompt that its KV cache probably holds. */
  readonly cachedTokens: number;
  /** Tokens of other prompts of this gateway that it reads first: they were sent there and have no answer yet. */
  readonly aheadTokens: number;
  /** Failed lately and not yet proved well again. */
  readonly cooling: boolean;
}

/** What the decision needs to know of a request. */
export interface RequestFacts {
  /** Estimated: only providers have the tokenizer. */
  readonly promptTokens: number;
  /** Null: no limit was asked for. */
  readonly outputTokensMax: number | null;
  /** Predicted time to first token that the client accepts at most; null: any. */
  readonly ttftMaxMs: number | null;
  /** Whether it continues an answer that lost its provider: such may use the headroom. */
  readonly isResumed: boolean;
}

export interface Prediction {
  readonly networkMs: number;
  readonly waitMs: number;
  readonly prefillMs: number;
  readonly ttftMs: number;
  readonly tpotMs: number;
  readonly feeNanoUsd: number;
  /** What all of it together is worth, in milliseconds. */
  readonly scoreMs: number;
}

export function predict(candidate: Candidate, request: RequestFacts, policy: RoutingPolicy): Prediction {
  const { offer, active, queued } = candidate;
  const networkMs = candidate.roundTripMs + policy.jitterWeight * (candidate.jitterMs ?? 0);
  const ahead = Math.max(0, active + queued - offer.parallelMax + 1);
  const waitMs = (ahead / offer.parallelMax) * (candidate.answerMs ?? policy.unknownAnswerMs);
  // Batching shares the machine: a busy provider is slower even while slots are free.
  const crowding = 1 + active / offer.parallelMax;
  const prefillMs = enginePrefillMs(candidate, request, policy) * crowding;
  const tpotMs = candidate.tpotMs ?? policy.unknownTpotMs;
  const outputTokens = Math.min(
    request.outputTokensMax ?? policy.expectedOutputTokens,
    policy.expectedOutputTokens,
  );
  const decodeMs = tpotMs * outputTokens * crowding;
  const feeNanoUsd = predictedFee(candidate, request.promptTokens, outputTokens, prefillMs + decodeMs);
  const ttftMs = networkMs + waitMs + prefillMs;
  const scoreMs =
    ttftMs +
    policy.decodeWeight * decodeMs +
    policy.msPerNanoUsd * feeNanoUsd +
    policy.failureMs * candidate.failureShare +
    policy.trustMs * (neutralTrust - candidate.trust);
  return { networkMs, waitMs, prefillMs, ttftMs, tpotMs, feeNanoUsd, scoreMs };
}

function enginePrefillMs(candidate: Candidate, request: RequestFacts, policy: RoutingPolicy): number {
  const tokens = candidate.aheadTokens + Math.max(1, request.promptTokens - candidate.cachedTokens);
  const { ttftMs, prefillTokens, prefillMsPerToken } = candidate;
  // What was never measured begins at the assumed time for a short prompt.
  const knownMs = ttftMs ?? policy.unknownTtftMs;
  return Math.max(0, knownMs + prefillMsPerToken * (tokens - prefillTokens));
}

/** `fee()` in floating point: an estimate, and the hot path. */
function predictedFee(
  { offer: { price } }: Candidate,
  inputTokens: number,
  outputTokens: number,
  durationMs: number,
): number {
  return (
    (inputTokens * Number(price.inputPerMillionTokens) +
      outputTokens * Number(price.outputPerMillionTokens) +
      durationMs * Number(price.perSecond) * 1000) /
    1e6
  );
}
