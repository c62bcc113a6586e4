/** Signed statements: canonical CBOR under an Ed25519 signature (RFC 8032) with a domain prefix. */
import { type ZodType, z } from "zod";
import { concatBytes, utf8 } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { decodeCbor, encodeCbor } from "./cbor.ts";
import { type ModelOffer, type Offer, type SignedEnvelope, thoughtFormats, toolFormats } from "./offer.ts";
import { publicKeyOf } from "./provider-id.ts";
import { coordinateSchema, priceSchema, tierSchema } from "./schemas.ts";

export interface Signer {
  readonly providerId: string;
  sign(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>>;
}

/** Clocks of strangers differ; an offer from this far in the future is still taken. */
export const clockSkewMaxMs: number = 5 * 60_000;
/** A statement that would bind for longer is refused: nobody could take it back. */
export const lifetimeMaxMs: number = 24 * 3600_000;
/** A whole offer as bytes: 256 models fit. */
export const envelopeBytesMax = 128 * 1024;

const shortText = z.string().max(200);
const count = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31);

const modelOffer: ZodType<ModelOffer> = z.strictObject({
  modelId: z.string().min(1).max(200),
  name: z.string().min(1).max(200),
  engine: z.enum(["llama", "exact", "openai", "naive"]),
  trustTier: tierSchema,
  contextTokensMax: count.min(1),
  parallelMax: count.min(1),
  resumable: z.boolean(),
  forwardsPrompts: z.literal(true).exactOptional(),
  continuesText: z.enum(["completions", "all"]).exactOptional(),
  features: z.array(z.string().max(40)).max(32),
  toolFormat: z.enum(toolFormats).exactOptional(),
  thoughtFormat: z.enum(thoughtFormats).exactOptional(),
  price: priceSchema,
});

const timestamp = z
  .number()
  .int()
  .min(0)
  .max(2 ** 52);

const offer: ZodType<Offer> = z.strictObject({
  providerId: shortText,
  sequence: timestamp,
  issuedAtMs: timestamp,
  expiresAtMs: timestamp,
  region: shortText,
  coordinate: coordinateSchema.exactOptional(),
  models: z.array(modelOffer).max(256),
});

const offerDomain = "skein-offer-v1";

export function signOffer(signer: Signer, content: Offer): Promise<SignedEnvelope> {
  return signStatement(signer, offerDomain, content);
}

/** @throws SkeinError `protocol_violation`, `invalid_signature` */
export async function openOffer(envelope: SignedEnvelope, now: { nowMs: number }): Promise<Offer> {
  return openStatement(offerDomain, offer, envelope, now, (content) => content.providerId);
}

export async function signStatement(
  signer: Signer,
  domain: string,
  content: unknown,
): Promise<SignedEnvelope> {
  const payload = encodeCbor(content);
  return { payload, signature: await signer.sign(signedBytes(domain, payload)) };
}

/** What a statement that expires has in common with an offer. */
interface Expiring {
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

/** Checks schema, signature and dates of a statement made by `authorOf(content)`. */
export async function openStatement<T extends Expiring>(
  domain: string,
  schema: ZodType<T>,
  envelope: SignedEnvelope,
  { nowMs }: { nowMs: number },
  authorOf: (content: T) => string,
): Promise<T> {
  const content = await openRecord(domain, schema, envelope, authorOf);
  if (content.expiresAtMs <= nowMs) {
    throw new SkeinError(
      "protocol_violation",
      "The statement has expired; check the clocks of both machines.",
    );
  }
  if (
    content.issuedAtMs > nowMs + clockSkewMaxMs ||
    content.expiresAtMs > content.issuedAtMs + lifetimeMaxMs
  ) {
    throw new SkeinError("protocol_violation", "The statement's dates lie too far in the future.");
  }
  return content;
}

/** Checks schema and signature of a record made by `authorOf(content)`: a statement that stays true. */
export async function openRecord<T>(
  domain: string,
  schema: ZodType<T>,
  envelope: SignedEnvelope,
  authorOf: (content: T) => string,
): Promise<T> {
  if (envelope.payload.length > envelopeBytesMax) {
    throw new SkeinError(
      "protocol_violation",
      `A statement has ${envelope.payload.length} bytes; ${envelopeBytesMax} are allowed.`,
    );
  }
  const content = decodeCbor(schema, envelope.payload, "signed statement");
  const author = authorOf(content);
  if (!(await verifySignature(author, signedBytes(domain, envelope.payload), envelope.signature))) {
    throw new SkeinError("invalid_signature", `The signature is not that of ${author}.`);
  }
  return content;
}

/** The domain keeps a signature of one kind of statement from passing for another. */
function signedBytes(domain: string, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  return concatBytes([utf8(domain), Uint8Array.of(0), payload]);
}

/** Whether `author`, a provider's or gateway's id, has signed these bytes. */
export async function verifySignature(
  author: string,
  bytes: Uint8Array<ArrayBuffer>,
  signature: Uint8Array,
): Promise<boolean> {
  if (signature.length !== 64) return false;
  const key = await crypto.subtle.importKey("raw", publicKeyOf(author), "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", key, new Uint8Array(signature), bytes);
}
