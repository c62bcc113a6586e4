import type { ModelOffer } from "../../src/protocol/offer.ts";
import type { Random } from "../../src/util/random.ts";

/** One model as any provider may offer it: slots and prices differ. */
export function anyOffer(random: Random): ModelOffer {
  const price = (usd: number): bigint => BigInt(Math.floor(random.next() * usd * 1e9));
  return {
    modelId: "gguf-sha256:6a7a",
    name: "model",
    engine: "llama",
    trustTier: "float",
    contextTokensMax: 8_192,
    parallelMax: 1 + Math.floor(random.next() * 8),
    resumable: true,
    features: [],
    price: {
      inputPerMillionTokens: price(0.2),
      outputPerMillionTokens: price(0.6),
      perSecond: 0n,
    },
  };
}
