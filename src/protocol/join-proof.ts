/**
 * Both sides of a session prove that they know the join token without sending it: HMAC-SHA-256 (RFC 2104)
 * under the token over role, both identities and both nonces. The channel below proves the identities, so
 * a proof overheard or obtained by a stranger is worth nothing elsewhere.
 */
import { concatBytes, utf8 } from "../util/bytes.ts";

export interface JoinFacts {
  readonly gatewayId: string;
  readonly providerId: string;
  readonly gatewayNonce: Uint8Array;
  readonly providerNonce: Uint8Array;
}

export const nonceBytes = 32;

export async function joinProof(
  token: string,
  prover: "gateway" | "provider",
  facts: JoinFacts,
): Promise<Uint8Array<ArrayBuffer>> {
  const key = await hmacKey(token, "sign");
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, provenBytes(prover, facts)));
}

/** Constant-time (WebCrypto's own comparison). */
export async function checkJoinProof(
  token: string,
  prover: "gateway" | "provider",
  facts: JoinFacts,
  proof: Uint8Array,
): Promise<boolean> {
  const key = await hmacKey(token, "verify");
  return crypto.subtle.verify("HMAC", key, new Uint8Array(proof), provenBytes(prover, facts));
}

function hmacKey(token: string, usage: "sign" | "verify"): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", utf8(token), { name: "HMAC", hash: "SHA-256" }, false, [usage]);
}

function provenBytes(prover: string, facts: JoinFacts): Uint8Array<ArrayBuffer> {
  const texts = ["skein-join-v1", prover, facts.gatewayId, facts.providerId].join("\0");
  return concatBytes([utf8(texts), Uint8Array.of(0), facts.gatewayNonce, facts.providerNonce]);
}
