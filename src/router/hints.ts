/** What a client asks of the provider, and why an offer does not come into question. */
import type { Feature, ModelOffer } from "../protocol/offer.ts";
import { isWithin } from "./regions.ts";
import { isProviderId } from "../protocol/provider-id.ts";

/** How an answer can be trusted: each level includes those before it. */
export type TrustWish =
  /** Signed by its provider. */
  | { readonly level: "receipt" }
  /** Of a model in integers: anybody can compute it again. */
  | { readonly level: "exact" }
  /** …and with at least this chance the gateway does. */
  | { readonly level: "audit"; readonly probability: number }
  /** …and so many independent providers give it, bit for bit. */
  | { readonly level: "replicated"; readonly replicas: number };

export interface RoutingHints {
  /** Declared region, or the beginning of one (`eu` also means `eu-west`), that no round trip contradicts. Null: any. */
  readonly region: string | null;
  /** nanoUSD per million tokens and per second; null: any price. */
  readonly priceMax: {
    readonly input: bigint | null;
    readonly output: bigint | null;
    /** Without it, offers that charge for time are refused: nobody knows beforehand how long an answer takes. */
    readonly second: bigint;
  } | null;
  readonly ttftMaxMs: number | null;
  /** Provider ids; null: all. */
  readonly allow: ReadonlySet<string> | null;
  readonly deny: ReadonlySet<string>;
  /** Only where the prompt stays on the provider's machine. */
  readonly isPrivate: boolean;
  /** What the request cannot be answered without. */
  readonly needs: readonly Feature[];
  /** Null: any provider will do. */
  readonly trust: TrustWish | null;
}

export const noHints: RoutingHints = {
  region: null,
  priceMax: null,
  ttftMaxMs: null,
  allow: null,
  deny: new Set(),
  isPrivate: false,
  needs: [],
  trust: null,
};

/** Why a provider was not chosen from, in words that are part of the API. */
export type RejectReason =
  | "not_allowed"
  | "denied"
  | "other_region"
  /** It declares the region, but its round trip contradicts that. */
  | "region_doubtful"
  | "not_private"
  | "too_expensive"
  /** It lacks what the request asks for: `response_format`, `logprobs`. */
  | "unable"
  /** A receipt of it for this model was proved wrong. */
  | "failed_audit"
  | "gives_no_receipts"
  /** Its answers cannot be computed again. */
  | "not_exact"
  /** Another replica of the same answer has it. */
  | "another_replica"
  /** They could, but not by this gateway, which lacks the model. */
  | "not_auditable"
  | "too_slow"
  | "full"
  /** It has slots, but the headroom keeps them. */
  | "reserved"
  | "context_too_short"
  | "cannot_continue"
  | "tried_already";

/** Where a provider says that it is, and whether its round trip contradicts that. */
export interface DeclaredRegion {
  readonly name: string;
  readonly isDoubtful: boolean;
}

export const noRegion: DeclaredRegion = { name: "", isDoubtful: false };

/** What hints alone exclude: waiting does not change it. */
export function refusedByHints(
  providerId: string,
  region: DeclaredRegion,
  offer: ModelOffer,
  hints: RoutingHints,
): RejectReason | null {
  if (hints.allow !== null && !hints.allow.has(providerId)) return "not_allowed";
  if (hints.deny.has(providerId)) return "denied";
  if (hints.region !== null) {
    if (!isWithin(region.name, hints.region)) return "other_region";
    if (region.isDoubtful) return "region_doubtful";
  }
  if (hints.isPrivate && offer.forwardsPrompts === true) return "not_private";
  if (hints.needs.some((feature) => !offer.features.includes(feature))) return "unable";
  if (hints.trust !== null && !isProviderId(providerId)) return "gives_no_receipts";
  if (hints.trust !== null && hints.trust.level !== "receipt" && offer.trustTier !== "exact")
    return "not_exact";
  if (hints.priceMax === null) return null;
  const { input, output, second } = hints.priceMax;
  const { price } = offer;
  const isTooExpensive =
    (input !== null && price.inputPerMillionTokens > input) ||
    (output !== null && price.outputPerMillionTokens > output) ||
    price.perSecond > second;
  return isTooExpensive ? "too_expensive" : null;
}
