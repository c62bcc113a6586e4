/** Canonical CBOR (RFC 8949, section 4.2.1) with bounds, and schemas for everything that is decoded. */
import { decode, encode, rfc8949EncodeOptions } from "cborg";
import type { ZodType } from "zod";
import { SkeinError } from "../util/errors.ts";

export function encodeCbor(value: unknown): Uint8Array<ArrayBuffer> {
  return encode(value, rfc8949EncodeOptions);
}

/**
 * Decodes untrusted bytes and checks them against a schema. Only the canonical form of definite lengths
 * and unique keys is accepted.
 *
 * @param what names the message in the error
 * @throws SkeinError `protocol_violation`
 */
export function decodeCbor<T>(schema: ZodType<T>, bytes: Uint8Array, what: string): T {
  let value: unknown;
  try {
    value = decode(bytes, {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      allowNaN: false,
      allowInfinity: false,
      rejectDuplicateMapKeys: true,
    });
  } catch (error) {
    throw new SkeinError("protocol_violation", `A ${what} is not canonical CBOR.`, { cause: error });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue === undefined ? "" : ` at ${issue.path.join(".")}: ${issue.message}`;
  throw new SkeinError("protocol_violation", `A ${what} is malformed${where.slice(0, 200)}.`);
}
