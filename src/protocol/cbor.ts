/** Canonical CBOR (RFC 8949, section 4.2.1) with bounds, and schemas for everything that is decoded. */
import { decode, encode, rfc8949EncodeOptions } from "cborg";
import type { ZodType } from "zod";
import { SkeinError } from "../util/errors.ts";
import { CanonicalTokenizer } from "./cbor-tokenizer.ts";

/** Values (keys included) of a message; an offer of 256 models, the largest without a prompt, has 7,000. */
const valuesMax = 8_192;

export function encodeCbor(value: unknown): Uint8Array<ArrayBuffer> {
  // Long values come as one of Node's buffers, whose methods are not those of byte strings elsewhere.
  const { buffer, byteOffset, length } = encode(value, rfc8949EncodeOptions);
  return new Uint8Array(buffer, byteOffset, length);
}

/**
 * Decodes untrusted bytes and checks them against a schema. Only the one canonical form of a value is
 * accepted, so whatever is accepted encodes to the same bytes again.
 *
 * @param what names the message in the error
 * @param limits a message that may hold a prompt has more values than others
 * @throws SkeinError `protocol_violation`
 */
export function decodeCbor<T>(
  schema: ZodType<T>,
  bytes: Uint8Array,
  what: string,
  limits = { valuesMax },
): T {
  const options = {
    strict: true,
    allowBigInt: true,
    allowIndefinite: false,
    allowUndefined: false,
    allowNaN: false,
    allowInfinity: false,
  };
  let value: unknown;
  try {
    value = decode(bytes, {
      ...options,
      tokenizer: new CanonicalTokenizer(bytes, options, limits.valuesMax),
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
