import type { Feature } from "../protocol/offer.ts";

/** What an engine with a model and a tokenizer of its own can do. */
export function featuresOf({ hasInfill }: { readonly hasInfill: boolean }): Feature[] {
  return ["json", "grammar", "logprobs", "embeddings", ...(hasInfill ? (["infill"] as const) : [])];
}
