/** A peer's identity: an Ed25519 key made from 32 secret bytes. */
import { providerIdOf } from "../protocol/provider-id.ts";
import type { Signer } from "../protocol/signing.ts";
import { concatBytes, fromHex } from "../util/bytes.ts";

export const identitySeedBytes = 32;

/** PKCS#8 header of an Ed25519 private key (RFC 8410, section 7); the seed follows. */
const pkcs8Header = fromHex("302e020100300506032b657004220420");

/** @param seed 32 secret bytes */
export async function createSigner(seed: Uint8Array): Promise<Signer> {
  const key = await importSeed(seed, false);
  return {
    providerId: await providerIdOfSeed(seed),
    sign: async (bytes) => new Uint8Array(await crypto.subtle.sign("Ed25519", key, new Uint8Array(bytes))),
  };
}

export async function providerIdOfSeed(seed: Uint8Array): Promise<string> {
  // WebCrypto hands out the public half of a private key only inside a JWK.
  const { x } = await crypto.subtle.exportKey("jwk", await importSeed(seed, true));
  return providerIdOf(base64url(x!));
}

function importSeed(seed: Uint8Array, extractable: boolean): Promise<CryptoKey> {
  if (seed.length !== identitySeedBytes) throw new RangeError(`a seed has ${identitySeedBytes} bytes`);
  return crypto.subtle.importKey("pkcs8", concatBytes([pkcs8Header, seed]), "Ed25519", extractable, ["sign"]);
}

function base64url(text: string): Uint8Array {
  const base64 = text.replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}
