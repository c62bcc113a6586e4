/** The lines of a batch's input: cut out of the file as it is read, checked one by one. */
import { createHash } from "node:crypto";
import { z } from "zod";
import { SkeinError } from "../../util/errors.ts";
import type { Random } from "../../util/random.ts";
import { requestBodyBytesMax } from "../options.ts";
import { batchEndpoints, type LineRequest } from "./endpoints.ts";

const customIdLengthMax = 512;
const newline = 10;
const linesPerTurn = 100;

export interface RawLine {
  /** From 0, blank lines left out. */
  readonly number: number;
  /** In the file, from 1. */
  readonly fileLine: number;
  /** Null: it is too long. */
  readonly text: string | null;
}

/** @param file its bytes in order */
export async function* readLines(file: AsyncIterable<Uint8Array>): AsyncGenerator<RawLine, void> {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let fileLine = 0;
  let number = 0;
  const take = (last: Uint8Array): RawLine | null => {
    fileLine += 1;
    const isTooLong = heldBytes + last.length > requestBodyBytesMax;
    const text = isTooLong
      ? null
      : Buffer.concat([...held, last])
          .toString("utf8")
          .trim();
    held = [];
    heldBytes = 0;
    return text === "" ? null : { number: number++, fileLine, text };
  };
  for await (const bytes of file) {
    let from = 0;
    for (let at = bytes.indexOf(newline); at >= 0; at = bytes.indexOf(newline, from)) {
      const line = take(bytes.subarray(from, at));
      from = at + 1;
      if (line !== null) yield line;
      // Thousands of lines come at once: others have their turn in between.
      if (fileLine % linesPerTurn === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    heldBytes += bytes.length - from;
    // Of a line that is too long nothing more is kept.
    if (heldBytes <= requestBodyBytesMax) held.push(bytes.subarray(from));
    else held = [];
  }
  const line = take(new Uint8Array());
  if (line !== null) yield line;
}

/** One request of a batch. */
export interface BatchLine {
  readonly number: number;
  readonly customId: string;
  readonly request: LineRequest;
  readonly bytes: number;
  /** The same for lines that must have the same answer; null: chance is asked for. */
  readonly sameAs: string | null;
}

const lineSchema = z.looseObject({
  custom_id: z.string().min(1).max(customIdLengthMax),
  method: z.literal("POST"),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
});

const fieldWords: Readonly<Record<string, string>> = {
  custom_id: `a text of 1 to ${customIdLengthMax} characters`,
  method: "POST",
  url: "the batch's endpoint",
  body: "an object, as the endpoint takes it",
};

/**
 * @throws SkeinError `invalid_json`, `invalid_request`, `unsupported_parameter`; what is known of the line's
 *   `custom_id` is given to `onId` before
 */
export function checkLine(
  { number, text }: RawLine,
  endpoint: string,
  random: Random,
  onId: (customId: string) => void,
): BatchLine {
  if (text === null) {
    throw new SkeinError("request_too_large", `The line is longer than ${requestBodyBytesMax} bytes.`);
  }
  const value = parsed(text);
  const { custom_id: given } = value as { custom_id?: unknown };
  if (typeof given === "string") onId(given.slice(0, customIdLengthMax));
  const { success, data, error } = lineSchema.safeParse(value);
  if (!success) {
    const param = String(error.issues[0]!.path[0] ?? "");
    throw new SkeinError("invalid_request", `'${param}' must be ${fieldWords[param] ?? "right"}.`, { param });
  }
  if (data.url !== endpoint) {
    throw new SkeinError("invalid_request", `'url' must be the batch's endpoint, ${endpoint}.`, {
      param: "url",
    });
  }
  return {
    number,
    customId: data.custom_id,
    request: parseBody(endpoint, data.body, random),
    bytes: text.length,
    sameAs: isDeterministic(endpoint, data.body) ? hashOf(data.body) : null,
  };
}

/** @throws SkeinError which names the parameter as a part of the line's `body` */
function parseBody(endpoint: string, body: Record<string, unknown>, random: Random): LineRequest {
  try {
    return batchEndpoints[endpoint]!.parse(body, random);
  } catch (error) {
    if (!(error instanceof SkeinError) || error.param === undefined) throw error;
    const { code, message, hint, param } = error;
    throw new SkeinError(code, message, { ...(hint === undefined ? {} : { hint }), param: `body.${param}` });
  }
}

function parsed(text: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new SkeinError("invalid_json", "The line is not valid JSON.", { cause: error });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new SkeinError("invalid_request", "The line must be a JSON object.");
}

/** Whoever names a seed, or leaves nothing to chance, wants one answer to one question. */
function isDeterministic(endpoint: string, { temperature, seed }: Record<string, unknown>): boolean {
  if (batchEndpoints[endpoint]?.isDeterministic === true) return true;
  return temperature === 0 || typeof seed === "number";
}

/** Of the same fields with the same values, in whatever order they stand. */
function hashOf(body: Record<string, unknown>): string {
  return createHash("sha256")
    .update(JSON.stringify(ordered(body)))
    .digest("base64url")
    .slice(0, 22);
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, ordered(item)]));
}
