/** The Merkle tree over a tensor's bytes in chunks of 512. */
import { chunkTag, weightChunkBytes } from "../commitment/tags.ts";
import { merkleRoot, type Sha256 } from "../commitment/commitment.ts";

const tag: Uint8Array = Uint8Array.of(chunkTag);

/** Root of the concatenated parts; the last chunk may be shorter. */
export function weightRoot(sha256: Sha256, parts: readonly Uint8Array[]): Uint8Array {
  const leaves: Uint8Array[] = [];
  let carried: Uint8Array[] = [];
  let carriedBytes = 0;
  for (const part of parts) {
    let at = 0;
    // What the parts before left over comes first.
    if (carriedBytes > 0) {
      at = Math.min(part.length, weightChunkBytes - carriedBytes);
      carried.push(part.subarray(0, at));
      carriedBytes += at;
      if (carriedBytes < weightChunkBytes) continue;
      leaves.push(sha256(tag, ...carried));
    }
    for (; at + weightChunkBytes <= part.length; at += weightChunkBytes) {
      leaves.push(sha256(tag, part.subarray(at, at + weightChunkBytes)));
    }
    carried = [part.subarray(at)];
    carriedBytes = part.length - at;
  }
  if (carriedBytes > 0) leaves.push(sha256(tag, ...carried));
  return merkleRoot(sha256, leaves);
}
