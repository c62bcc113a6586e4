import type { ModelOffer } from "../../protocol/offer.ts";

/** Whether an offer goes by a name: an alias, an identity, or `alias@prefix`. */
export function matches(offer: ModelOffer, name: string): boolean {
  if (offer.name === name || offer.modelId === name) return true;
  const at = name.lastIndexOf("@");
  if (at <= 0 || offer.name !== name.slice(0, at)) return false;
  const hash = offer.modelId.slice(offer.modelId.indexOf(":") + 1);
  const prefix = name.slice(at + 1);
  return prefix.length >= 4 && hash.startsWith(prefix);
}
