/**
 * JSON shapes of the gateway's own HTTP endpoints and of its extension fields in OpenAI's objects
 * (always under the key `skein`). Amounts are decimal strings of integers in nanoUSD.
 */
import type { EngineKind, TrustTier } from "./offer.ts";

/** One entry of GET /skein/v1/audits, and GET /skein/v1/audits/{receipt}. */
export interface AuditView {
  object: "audit";
  /** Hash of the receipt, hexadecimal. */
  receipt: string;
  provider: string;
  model_id: string;
  tier: "exact" | "float";
  result: "pass" | "fail" | "unable";
  /** What was wrong first; position in prompt and answer together. */
  finding: { kind: string; position: number; layer: number | null } | null;
  /** Why nothing can be said. */
  unable: string | null;
  /** In words; null: nothing is wrong. */
  problem: string | null;
  /** Chance, somebody's wish, or replicas of an answer that differed. */
  chosen_by: "beacon" | "request" | "dispute";
  /** With which an answer of this provider was chosen then. */
  probability: number;
  /** Of the beacon; 0: none. */
  round: number;
  request_id: string;
  /** That were computed again; in the float tier tokens that were compared. */
  positions: number;
  took_ms: number;
  /** Unix seconds. */
  issued_at: number;
  auditor: string;
  /** Canonical CBOR and signature, hexadecimal; left out of lists. */
  verdict?: { payload: string; signature: string };
  opening?: { payload: string; signature: string } | null;
  /** What proves a failure: a receipt's document. Null: nothing does, or it is not for whoever asks. */
  evidence?: object | null;
  /**
   * What the provider gave out about its own numbers, hexadecimal: hashes of all rows (null: too many), and of the leaves of the row at
   * `position`. Null: nothing, or nothing was asked for.
   */
  trace?: { position: number | null; rows: string | null; leaves: string | null } | null;
}

/** GET /skein/v1/audits. */
export interface AuditListView {
  object: "list";
  data: AuditView[];
  /** Receipts whose round is not over, and chosen ones that are not checked yet. */
  waiting: number;
  chosen: number;
  /** Of this gateway: while it is asleep (it passed a planted fault), its verdicts are not used. */
  checker: { asleep: boolean; faults_found: number; faults_passed: number };
}

/** `reputation` in GET /skein/v1/providers/{id}. */
export interface ReputationView {
  /** 0 to 1. */
  trust: number;
  standing: "suspended" | "newcomer" | "known" | "trusted";
  /** How often its answers are audited, and why so often. */
  audit: { probability: number; reason: string };
  /** What trust is made of, worst first: they multiply. */
  factors: { name: string; value: number; from: Record<string, number> }[];
  /** Models that it does not answer for any more. */
  excluded: { model_id: string; reason: string; receipt: string; until: number }[];
  /** What statistics say against its float answers, of the last day: flagged when the natural logarithm reaches `flagged_at`. */
  evidence: { model_id: string; tokens: number; log_evidence: number; flagged_at: number }[];
  /** The latest, newest first. */
  audits: AuditView[];
}

export interface FeeView {
  /** Integer nanoUSD as a decimal string. */
  amount: string;
  unit: "nanoUSD";
  /** The same as decimal USD, for people: "0.00000123". */
  usd: string;
  /** What the configured cloud price would have cost for the same tokens; absent when none is set. */
  cloud?: { name: string; amount: string; usd: string };
}

export interface PriceView {
  unit: "nanoUSD";
  input_per_million_tokens: string;
  output_per_million_tokens: string;
  per_second: string;
}

/** `skein` inside each entry of GET /v1/models. */
export interface ModelView {
  /** Identities served under this name, the preferred (most providers) first. */
  model_ids: string[];
  engines: EngineKind[];
  trust_tiers: TrustTier[];
  /** 0: only the operator's cloud of last resort answers for it. */
  providers: number;
  /** What the name stands for at this gateway, where it is an alias. */
  alias_of?: string;
  context_tokens_max: number;
  /** Cheapest and dearest sheet among the offers. */
  price: { from: PriceView; to: PriceView };
}

/** `skein` in completions, and in the last chunk of a stream. */
export interface ServedView {
  request_id: string;
  provider: string;
  model_id: string;
  engine: EngineKind;
  /** Attempts made, the successful one included. */
  attempts: number;
  /** Hash of the last attempt's receipt, hexadecimal; null: there is none. */
  receipt: string | null;
  trust: TrustView;
}

export interface TrustView {
  /** `receipt`, `exact`, `audit:5%`, `replicated:2`; null: nothing special. */
  asked: string | null;
  /** What the answer has: the same, or `none`; of replicas as many as agreed, the gateway's own computation included. */
  given: string;
  /** Of an answer that several providers were asked for. */
  replicas?: {
    choice: number;
    /** Null: nobody delivered anything. */
    provider: string | null;
    /** Hash of its last receipt, hexadecimal. */
    receipt: string | null;
    outcome: "agreed" | "proved_wrong" | "outvoted" | "differed" | "failed";
  }[];
}

/** One entry of GET /skein/v1/providers. */
export interface ProviderView {
  id: string;
  address: string;
  /** Declared. */
  region: string;
  /** Why it cannot be there, so that hints for the region leave it out; null: nothing speaks against it. */
  region_doubt: string | null;
  /** available: answered a real probe lately; probing, cooling (failed lately), not ready, no offer. */
  state: "available" | "probing" | "cooling" | "not_ready" | "no_offer";
  /** Why it is not available; empty when it is. */
  reason: string;
  joined_at: number;
  active: number;
  queued: number;
  /** As the router takes it: measured by this gateway, estimated from the coordinate in the offer, or assumed. */
  round_trip_ms: number;
  round_trip_from: "measured" | "estimated" | "assumed";
  /** By the coordinate alone, uncertainty included; null: nobody can say. */
  estimated_round_trip_ms: number | null;
  /** How often its coordinate was compared with a measurement here, and contradicted it. */
  coordinates: { compared: number; contradicted: number };
  ttft_ms: number | null;
  tokens_per_second: number | null;
  requests: { completed: number; failed: number };
  /** Routing decisions of this gateway lately in which it was looked at. */
  work: {
    chosen: number;
    passed_over: number;
    /** Unix seconds; null: never. */
    last_chosen_at: number | null;
    /** Why not, most frequent first. */
    reasons: { reason: string; count: number; advice: string }[];
    /** What to do to get more, in a sentence. */
    advice: string;
  };
  models: {
    name: string;
    model_id: string;
    engine: EngineKind;
    trust_tier: TrustTier;
    context_tokens_max: number;
    parallel_max: number;
    /** Slots that new requests leave free for answers that lose their provider. */
    kept_free: number;
    resumable: boolean;
    /** Without token ids: which answers can go on by their text. */
    continues_text: "none" | "completions" | "all";
    /** Whether prompts leave the provider's machine. */
    forwards_prompts: boolean;
    features: readonly string[];
    tool_format: string;
    thought_format: string;
    price: PriceView;
  }[];
  /** Only in GET /skein/v1/providers/{id}, of a gateway that audits. */
  reputation?: ReputationView;
}

/** One provider in a routing decision. Milliseconds are predictions from measurements. */
export interface CandidateView {
  provider: string;
  /** Everything together, in milliseconds; lower is better. */
  score_ms: number;
  ttft_ms: number;
  network_ms: number;
  /** `measured` by this gateway, `estimated` from the coordinate in the provider's offer, or `assumed`. */
  round_trip_ms: number;
  round_trip_from: "measured" | "estimated" | "assumed";
  wait_ms: number;
  prefill_ms: number;
  ms_per_token: number;
  /** Of the prompt, probably in its KV cache. */
  cached_tokens: number;
  /** Requests there per slot. */
  load: number;
  failure_share: number;
  cooling: boolean;
  /** What cost it most against the chosen one; null for that one. */
  behind_because: string | null;
  price: PriceView;
  /** What the same answer would have cost there; null until the request has ended. */
  fee: FeeView | null;
}

export interface DecisionView {
  /** Since the request came. */
  at_ms: number;
  prompt_tokens_estimated: number;
  /** Null: nobody could be chosen. */
  provider: string | null;
  reason: string | null;
  /** A second attempt for a stream that became slow; null: something else. */
  moved: {
    /** The provider it was slow at. */
    from: string;
    /** Tokens that were emitted then. */
    position: number;
    ms_per_token: number;
    usual_ms_per_token: number;
    /** `taken_over`: it went on here; else why not. */
    outcome: "running" | "taken_over" | "not_needed" | "different" | "failed" | "too_slow";
  } | null;
  /** How the attempt there failed: when, after how many tokens of the answer, why. Null: it did not, or has not yet. */
  failed: { at_ms: number; position: number; code: string; message: string } | null;
  /** Offers that could serve the model then. */
  offers: number;
  /** The best ones, best first. */
  candidates: CandidateView[];
  rejected: { provider: string; reason: string }[];
  rejected_counts: Record<string, number>;
}

/** GET /v1/requests/{id}. */
export interface RequestView {
  object: "request";
  id: string;
  model: string;
  created: number;
  /** `running`, `ok`, or the code of the error it ended with. */
  status: string;
  /** Null until it has ended. */
  trust: TrustView | null;
  usage: { prompt_tokens: number; completion_tokens: number; fee: FeeView } | null;
  /** One per choice and attempt. */
  decisions: DecisionView[];
}

/** GET /skein/v1/gateway: what a provider needs in order to join. */
export interface GatewayView {
  peer_id: string;
  /** Multiaddrs ending in /p2p/<peer_id>. */
  addresses: string[];
  version: string;
  /** Whether joining needs a token or an allow-list entry. */
  join: "open" | "restricted";
  providers: number;
  now_ms: number;
}

/** POST /v1/quote. */
export interface QuoteView {
  object: "quote";
  model: string;
  input_tokens: number;
  /** What is asked for, and what it costs at most beside the answer of one provider. */
  trust: { asked: string | null; fee: FeeView };
  output_tokens_max: number;
  /** Of one provider, or of all replicas that are asked for: the question alone at the cheapest, the longest answer at the dearest. */
  total: { fee_min: FeeView; fee_max: FeeView };
  offers: {
    provider: string;
    model_id: string;
    engine: EngineKind;
    price: PriceView;
    /** For the input alone, and for the input with the longest answer (without time charges). */
    fee_min: FeeView;
    fee_max: FeeView;
  }[];
}

/** What of a batch (OpenAI's object) the command line shows. */
export interface BatchView {
  id: string;
  status: string;
  endpoint: string;
  /** Unix seconds. */
  created_at: number;
  expires_at: number;
  output_file_id: string | null;
  error_file_id: string | null;
  errors: { data: readonly { code: string; message: string; line: number | null }[] } | null;
  request_counts: { total: number; completed: number; failed: number };
  usage: { input_tokens: number; output_tokens: number; fee: FeeView };
}
