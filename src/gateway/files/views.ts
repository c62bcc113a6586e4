/** OpenAI's objects for files. */
import { z } from "zod";
import { SkeinError } from "../../util/errors.ts";
import type { Purpose, StoredFile } from "./file-store.ts";

const purposes = ["assistants", "batch", "evals", "fine-tune", "user_data", "vision"] as const;
/** As OpenAI has it. */
const lifetimeSecondsMin = 3600;
const lifetimeSecondsMax: number = 30 * 24 * 3600;

export function fileView(file: StoredFile) {
  return {
    id: file.id,
    object: "file" as const,
    bytes: file.bytes,
    created_at: Math.floor(file.createdMs / 1000),
    expires_at: Math.floor(file.expiresMs / 1000),
    filename: file.filename,
    purpose: file.purpose,
    status: "processed" as const,
    status_details: null,
  };
}

/** @throws SkeinError `invalid_request` */
export function purposeOf(given: unknown): Purpose {
  const found = purposes.find((purpose) => purpose === given);
  if (found !== undefined) return found;
  throw new SkeinError("invalid_request", `'purpose' must be one of ${purposes.join(", ")}.`, {
    param: "purpose",
  });
}

const lifetime = z.strictObject({
  anchor: z.literal("created_at"),
  seconds: z.int().min(lifetimeSecondsMin).max(lifetimeSecondsMax),
});

/** @returns milliseconds; null: not given. @throws SkeinError `invalid_request` */
export function lifetimeOf(given: unknown, param = "expires_after"): number | null {
  if (given == null) return null;
  const { success, data } = lifetime.safeParse(given);
  if (success) return data.seconds * 1000;
  throw new SkeinError(
    "invalid_request",
    `'${param}' must be {"anchor": "created_at", "seconds": …} with ${lifetimeSecondsMin} to ${lifetimeSecondsMax} seconds.`,
    { param },
  );
}

const filenameLengthMax = 255;

/** A name as it is shown: no folder, no control characters. */
export function filenameOf(given: string | null): string {
  const name = (given ?? "").split(/[/\\]/).at(-1)!;
  // oxlint-disable-next-line no-control-regex
  const clean = name.replaceAll(/[\u0000-\u001f\u007f]/g, "").slice(0, filenameLengthMax);
  return clean === "" ? "file" : clean;
}
