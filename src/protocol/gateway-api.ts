/**
 * JSON shapes of the gateway's own HTTP endpoints and of its extension fields in OpenAI's objects
 * (always under the key `skein`). Amounts are decimal strings of integers in nanoUSD.
 */
import type { EngineKind, TrustTier } from "./offer.ts";

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
  providers: number;
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
}

/** One entry of GET /skein/v1/providers. */
export interface ProviderView {
  id: string;
  address: string;
  region: string;
  /** available: answered a real probe lately; probing, cooling (failed lately), not ready, no offer. */
  state: "available" | "probing" | "cooling" | "not_ready" | "no_offer";
  /** Why it is not available; empty when it is. */
  reason: string;
  joined_at: number;
  active: number;
  queued: number;
  round_trip_ms: number | null;
  ttft_ms: number | null;
  tokens_per_second: number | null;
  requests: { completed: number; failed: number };
  models: {
    name: string;
    model_id: string;
    engine: EngineKind;
    trust_tier: TrustTier;
    context_tokens_max: number;
    parallel_max: number;
    resumable: boolean;
    price: PriceView;
  }[];
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
  output_tokens_max: number;
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
