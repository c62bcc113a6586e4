/** The request's `skein` object: who may answer it, at what price, how fast. */
import { z } from "zod";
import { usdToNano } from "../../protocol/price.ts";
import { noHints, type RoutingHints, type TrustWish } from "../../router/hints.ts";

/** Providers that a request names; nobody lists more by hand. */
const namedProvidersMax = 100;

const usd = z
  .union([z.string(), z.number().min(0).max(1e6)])
  .transform((value) => (typeof value === "string" ? value : value.toFixed(9)))
  .refine((value) => usdToNano(value) !== null)
  .transform((value) => usdToNano(value)!);
const providers = z.array(z.string().min(1).max(200)).max(namedProvidersMax);

/** "receipt", "exact", "audit:5%", or "replicated:2". More replicas than four cost more than they tell. */
export const trustSchema = z
  .string()
  .regex(/^(receipt|exact|audit:(100|\d{1,2}(\.\d{1,3})?)%|replicated:[2-4])$/)
  .transform((text): TrustWish => {
    if (text === "receipt" || text === "exact") return { level: text };
    if (text.startsWith("replicated:")) return { level: "replicated", replicas: Number(text.slice(-1)) };
    return { level: "audit", probability: Number(text.slice("audit:".length, -1)) / 100 };
  });
/** What it must be, for people. */
export const trustExpected =
  "receipt, exact, audit: with a percentage such as audit:5%, or replicated:2 to replicated:4";

/** As it is written. */
export function trustName(trust: TrustWish | null): string | null {
  if (trust === null) return null;
  if (trust.level === "replicated") return `replicated:${trust.replicas}`;
  if (trust.level !== "audit") return trust.level;
  return `audit:${Number((trust.probability * 100).toFixed(3))}%`;
}

export const skeinSchema = z.strictObject({
  allow_other_models: z.boolean().optional(),
  private: z.boolean().optional(),
  trust: trustSchema.optional(),
  region: z.string().min(1).max(100).optional(),
  max_price: z
    .strictObject({ input: usd.optional(), output: usd.optional(), second: usd.optional() })
    .optional(),
  max_ttft_ms: z.number().min(1).max(600_000).optional(),
  allow: providers.optional(),
  deny: providers.optional(),
});

export function hintsOf(given: z.infer<typeof skeinSchema> | null | undefined): RoutingHints {
  if (given == null) return noHints;
  const price = given.max_price;
  return {
    region: given.region ?? null,
    priceMax:
      price === undefined
        ? null
        : { input: price.input ?? null, output: price.output ?? null, second: price.second ?? 0n },
    ttftMaxMs: given.max_ttft_ms ?? null,
    allow: given.allow === undefined ? null : new Set(given.allow),
    deny: new Set(given.deny),
    isPrivate: given.private ?? false,
    needs: [],
    trust: given.trust ?? null,
  };
}
