/** Schemas that several kinds of messages share. */
import { type ZodType, z } from "zod";
import {
  coordinateDimensions,
  coordinateErrorMax,
  coordinateMaxMs,
  type NetworkCoordinate,
} from "./coordinate.ts";
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

export const coordinateSchema: ZodType<NetworkCoordinate> = z.strictObject({
  positionMs: z.array(z.number().min(-coordinateMaxMs).max(coordinateMaxMs)).length(coordinateDimensions),
  heightMs: z.number().min(0).max(coordinateMaxMs),
  error: z.number().min(0).max(coordinateErrorMax),
});
