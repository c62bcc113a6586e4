/** The weights of the routing decision, all in one place. Scores are milliseconds, lower is better. */
import { defaultMovePolicy, type MovePolicy } from "./move.ts";
import { defaultRegionPolicy, type RegionPolicy } from "./regions.ts";

export interface RoutingPolicy {
  // What is assumed where nothing was measured.
  /** Round trip to a provider that was not measured and tells no coordinate: far, but on this side of the world. */
  readonly unknownRoundTripMs: number;
  /** Time to first token of a provider that was never measured: tried early, trusted late. */
  readonly unknownTtftMs: number;
  /** Slope of the prefill until prompts of different length were seen. */
  readonly unknownPrefillMsPerToken: number;
  /** Time per token of one that was never measured. */
  readonly unknownTpotMs: number;
  /** Time of an answer, for the queue of a provider that was never measured. */
  readonly unknownAnswerMs: number;
  /** Tokens of an answer when the request sets no lower limit. */
  readonly expectedOutputTokens: number;

  // What counts how much.
  /** A connection's deviation counts this often: late tokens are felt, early ones are not. */
  readonly jitterWeight: number;
  /** Share of the decode time that counts: text is read while it comes. */
  readonly decodeWeight: number;
  /** Milliseconds that a client would wait to save one nanoUSD; 0.002 values a second at $0.0005. */
  readonly msPerNanoUsd: number;
  /** Milliseconds that a certain failure would cost: detection, another prefill. */
  readonly failureMs: number;
  /** Milliseconds between no trust and full trust; whoever nothing is known of stands at `neutralTrust`. */
  readonly trustMs: number;

  // Who is chosen among the good ones.
  /** Candidates within this factor of the best are considered equally good… */
  readonly nearBestFactor: number;
  /** …as are those within this many milliseconds. */
  readonly nearBestMs: number;
  /** Random candidates among the near-best of which the least loaded is taken. */
  readonly choices: number;
  /** A conversation goes where this share of its prompt is cached, if that one is near-best and has a free slot. */
  readonly stickyShare: number;
  /** Share of decisions that go to a random free candidate: who was slow once may have become fast. */
  readonly exploreShare: number;
  /** …unless its score is this many times the best one's. */
  readonly exploreFactor: number;
  /** Providers tried for one request. */
  readonly attemptsMax: number;

  // Admission.
  /** Requests that may wait at a provider, per slot: enough that no slot stands empty, the rest waits here, fairly. */
  readonly queuedPerSlotMax: number;
  /** Share of each provider's slots that new requests leave free for answers that lost their provider. */
  readonly headroom: number;
  /** Share of a provider's slots that lines of batches may use at most beside somebody who waits; less where that is felt. */
  readonly batchBeside: number;
  /** So long after the last of them batches keep to that share: whoever waited may ask again at once. */
  readonly batchHoldMs: number;

  /** Whose declared region is doubted. */
  readonly region: RegionPolicy;
  /** When a stream that became slow goes on elsewhere. */
  readonly move: MovePolicy;
}

/**
 * Trust of providers of which nothing is known; `trustMs` counts from here. It is what the router takes for a candidate, and only audits move
 * it: half for a clean record, down to 0 for one that was proved wrong. Reputation (audit/reputation.ts) has a scale of its own, on which
 * newcomers stand at 0.2 and rise by serving: that one says how often answers are audited. Were it used here, whoever served first would get
 * all the work because it has served.
 */
export const neutralTrust = 0.5;

/** Time costs a batch this much less than somebody who waits. */
const batchPatience = 10;

/** For lines of batches nothing waits at a provider, where it would be in the way, and price counts more than time. */
export function policyFor(policy: RoutingPolicy, { isBatch }: { readonly isBatch: boolean }): RoutingPolicy {
  if (!isBatch) return policy;
  return { ...policy, queuedPerSlotMax: 0, msPerNanoUsd: policy.msPerNanoUsd * batchPatience };
}

export const defaultPolicy: RoutingPolicy = {
  unknownRoundTripMs: 100,
  unknownTtftMs: 100,
  unknownPrefillMsPerToken: 0.2,
  unknownTpotMs: 10,
  unknownAnswerMs: 2_000,
  expectedOutputTokens: 200,
  jitterWeight: 2,
  decodeWeight: 0.1,
  msPerNanoUsd: 0.002,
  failureMs: 5_000,
  trustMs: 1_000,
  nearBestFactor: 1.1,
  nearBestMs: 5,
  choices: 2,
  stickyShare: 0.5,
  exploreShare: 0.02,
  exploreFactor: 4,
  attemptsMax: 4,
  queuedPerSlotMax: 1,
  headroom: 0,
  batchBeside: 1,
  batchHoldMs: 1_000,
  region: defaultRegionPolicy,
  move: defaultMovePolicy,
};
