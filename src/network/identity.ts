/** A peer's identity: an Ed25519 key made from 32 secret bytes. */
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { providerIdOf } from "../protocol/provider-id.ts";
import type { Signer } from "../protocol/signing.ts";

export const identitySeedBytes = 32;

/** PKCS#8 header of an Ed25519 private key (RFC 8410); the seed follows. */
const pkcs8Header = Uint8Array.of(
  0x30,
  0x2e,
  0x02,
  0x01,
  0x00,
  0x30,
  0x05,
  0x06,
  0x03,
  0x2b,
  0x65,
  0x70,
  0x04,
  0x22,
  0x04,
  0x20,
);

/** @param seed 32 secret bytes */
export async function createSigner(seed: Uint8Array): Promise<Signer> {
  const pkcs8 = Uint8Array.of(...pkcs8Header, ...seed);
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
  return {
    providerId: await providerIdOfSeed(seed),
    sign: async (bytes) => new Uint8Array(await crypto.subtle.sign("Ed25519", key, new Uint8Array(bytes))),
  };
}

export async function providerIdOfSeed(seed: Uint8Array): Promise<string> {
  const { publicKey } = await generateKeyPairFromSeed("Ed25519", seed);
  return providerIdOf(publicKey.raw);
}
