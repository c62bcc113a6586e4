/** SHA-256 in JavaScript, for browsers, whose own one (WebCrypto) is asynchronous. Node's own one is quicker. */
import { sha256 } from "@noble/hashes/sha2.js";
import type { Sha256 } from "./commitment.ts";

export const portableSha256: Sha256 = (...parts) => {
  const hashing = sha256.create();
  for (const part of parts) hashing.update(part);
  return hashing.digest();
};
