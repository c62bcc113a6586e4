/** Schemas that several kinds of messages share. */
import { type ZodType, z } from "zod";
import type { TrustTier } from "./offer.ts";
import type { PriceSheet } from "./price.ts";

/** nanoUSD. */
const amount = z
  .union([z.bigint(), z.number().int()])
  .transform(BigInt)
  .pipe(
    z
      .bigint()
      .min(0n)
      .max(10n ** 18n),
  );

export const priceSchema: ZodType<PriceSheet> = z.strictObject({
  inputPerMillionTokens: amount,
  outputPerMillionTokens: amount,
  perSecond: amount,
});

export const tierSchema: ZodType<TrustTier> = z.enum(["float", "exact", "unverified"]);
