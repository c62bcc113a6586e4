import { z } from "zod";
import { SkeinError } from "../../util/errors.ts";

/** As OpenAI has it. */
const pairsMax = 16;
const schema = z
  .record(z.string().min(1).max(64), z.string().max(512))
  .refine((value) => Object.keys(value).length <= pairsMax);

/** What a client notes on something that is kept. @throws SkeinError `invalid_request` */
export function metadataOf(given: unknown): Readonly<Record<string, string>> | null {
  if (given == null) return null;
  const { success, data } = schema.safeParse(given);
  if (success) return data;
  throw new SkeinError(
    "invalid_request",
    `'metadata' must be an object of at most ${pairsMax} texts (names up to 64 characters, values up to 512).`,
    { param: "metadata" },
  );
}
