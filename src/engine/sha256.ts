import { createHash, hash } from "node:crypto";
import type { Sha256 } from "../exact/commitment/commitment.ts";

/** Parts up to so many bytes in all are joined first. */
const joinedBytesMax = 65_536;
const joined = new Uint8Array(joinedBytesMax);

/**
 * SHA-256 for weights and commitments: millions of short inputs. One call with a string as result takes a third of the
 * time of a hash object (0.5 instead of 1.6 µs for 513 bytes).
 */
export const sha256: Sha256 = (...parts) => {
  if (parts.length === 1) return bytesOf(hash("sha256", parts[0]!, "binary"));
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (length > joinedBytesMax) return hashParts(parts);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return bytesOf(hash("sha256", joined.subarray(0, length), "binary"));
};

function hashParts(parts: readonly Uint8Array[]): Uint8Array {
  const hashing = createHash("sha256");
  for (const part of parts) hashing.update(part);
  return new Uint8Array(hashing.digest());
}

function bytesOf(binary: string): Uint8Array {
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
