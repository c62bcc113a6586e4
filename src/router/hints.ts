/** What a client asks of the provider, and why an offer does not come into question. */
import type { ModelOffer } from "../protocol/offer.ts";

export interface RoutingHints {
  /** Declared region, or the beginning of one: `eu` also means `eu-west`. Null: any. */
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
}

export const noHints: RoutingHints = {
  region: null,
  priceMax: null,
  ttftMaxMs: null,
  allow: null,
  deny: new Set(),
  isPrivate: false,
};

/** Why a provider was not chosen from, in words that are part of the API. */
export type RejectReason =
  | "not_allowed"
  | "denied"
  | "other_region"
  | "not_private"
  | "too_expensive"
  /** A receipt of it for this model was proved wrong. */
  | "failed_audit"
  | "too_slow"
  | "full"
  /** It has slots, but the headroom keeps them. */
  | "reserved"
  | "context_too_short"
  | "cannot_continue"
  | "tried_already";

/** What hints alone exclude: waiting does not change it. */
export function refusedByHints(
  providerId: string,
  region: string,
  offer: ModelOffer,
  hints: RoutingHints,
): RejectReason | null {
  if (hints.allow !== null && !hints.allow.has(providerId)) return "not_allowed";
  if (hints.deny.has(providerId)) return "denied";
  if (hints.region !== null && region !== hints.region && !region.startsWith(`${hints.region}-`)) {
    return "other_region";
  }
  if (hints.isPrivate && offer.forwardsPrompts === true) return "not_private";
  if (hints.priceMax === null) return null;
  const { input, output, second } = hints.priceMax;
  const { price } = offer;
  const isTooExpensive =
    (input !== null && price.inputPerMillionTokens > input) ||
    (output !== null && price.outputPerMillionTokens > output) ||
    price.perSecond > second;
  return isTooExpensive ? "too_expensive" : null;
}
