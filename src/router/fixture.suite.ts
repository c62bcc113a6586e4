/** A candidate with everything about it unremarkable. */
import { freePriceSheet, type PriceSheet } from "../protocol/price.ts";
import type { Candidate, RequestFacts } from "./predict.ts";

export interface CandidateValues extends Partial<Candidate> {
  readonly parallelMax?: number;
  readonly price?: PriceSheet;
}

export function candidate(providerId: string, values: CandidateValues = {}): Candidate {
  const { parallelMax = 4, price = freePriceSheet, ...rest } = values;
  return {
    providerId,
    offer: {
      modelId: "m",
      name: "m",
      engine: "naive",
      trustTier: "float",
      contextTokensMax: 100,
      parallelMax,
      resumable: true,
      features: [],
      price,
    },
    active: 0,
    queued: 0,
    roundTripMs: 1,
    roundTripFrom: "measured",
    jitterMs: 0,
    ttftMs: 100,
    prefillTokens: 500,
    prefillMsPerToken: 0.2,
    tpotMs: 20,
    answerMs: 1000,
    failureShare: 0,
    trust: 0.5,
    cachedTokens: 0,
    aheadTokens: 0,
    cooling: false,
    ...rest,
  };
}

export const facts: RequestFacts = {
  promptTokens: 500,
  outputTokensMax: 100,
  ttftMaxMs: null,
  isResumed: false,
};
