/**
 * Provider ids are libp2p peer ids of Ed25519 keys: base58btc of the identity multihash over the
 * protobuf-encoded public key (libp2p specs, peer-ids).
 */
import { base58btc } from "multiformats/bases/base58";
import { concatBytes, equalBytes } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";

/** Identity multihash, 36 bytes; protobuf: key type Ed25519, 32 bytes of data. */
const prefix = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20);
export const publicKeyBytes = 32;
const idCharsMax = 64;

export function providerIdOf(publicKey: Uint8Array): string {
  if (publicKey.length !== publicKeyBytes) throw new RangeError(`a public key has ${publicKeyBytes} bytes`);
  return base58btc.baseEncode(concatBytes([prefix, publicKey]));
}

export function isProviderId(text: string): boolean {
  try {
    publicKeyOf(text);
    return true;
  } catch {
    return false;
  }
}

/** @throws SkeinError `protocol_violation` when it is not the id of an Ed25519 key */
export function publicKeyOf(providerId: string): Uint8Array<ArrayBuffer> {
  if (providerId.length <= idCharsMax) {
    try {
      const bytes = base58btc.baseDecode(providerId);
      if (
        bytes.length === prefix.length + publicKeyBytes &&
        equalBytes(bytes.slice(0, prefix.length), prefix)
      ) {
        return new Uint8Array(bytes.slice(prefix.length));
      }
    } catch {
      // Not base58 at all: the same error.
    }
  }
  throw new SkeinError(
    "protocol_violation",
    `Not the id of an Ed25519 key: ${providerId.slice(0, idCharsMax)}`,
  );
}
