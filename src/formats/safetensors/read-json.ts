import type { ByteSource } from "../byte-source.ts";
import { invalidModelFile } from "../errors.ts";
import { BrokenJson, type JsonLimits, type JsonValue, parseJson } from "../json.ts";

/** @throws SkeinError `invalid_model_file`, `cancelled` */
export async function readJson(
  source: ByteSource,
  start: number,
  length: number,
  limits: JsonLimits,
  signal: AbortSignal,
): Promise<JsonValue> {
  const bytes = await source.read(start, length, signal);
  try {
    return parseJson(bytes, limits);
  } catch (error) {
    if (error instanceof BrokenJson) throw invalidModelFile(source.name, error.message, undefined, error);
    throw error;
  }
}
