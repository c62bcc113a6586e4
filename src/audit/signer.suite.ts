/** Fresh keys for tests. */
import { providerIdOf } from "../protocol/provider-id.ts";
import type { Signer } from "../protocol/signing.ts";

export async function newSigner(): Promise<Signer> {
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  return {
    providerId: providerIdOf(raw),
    sign: async (bytes) =>
      new Uint8Array(await crypto.subtle.sign("Ed25519", pair.privateKey, new Uint8Array(bytes))),
  };
}
