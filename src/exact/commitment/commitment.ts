/**
 * What an answer commits to, so that one wrong number anywhere can be pointed at (docs/EXACT.md, "Commitments"):
 *
 *     leaf(t, l) = H(0x01 | bytes of layer l at position t)         l = 0 (embedding) … layers
 *     row(t)     = root of leaf(t, 0 … layers), the leaf of the token
 *     chain(t)   = H(0x04 | chain(t − 1) | token | row(t))
 *     execRoot   = root of row(0 … T − 1)
 */
import { chainTag, hashBytes, logitsTag, nodeTag, tokenTag } from "./tags.ts";

/** SHA-256 of the parts one after the other: injected, because the quickest one differs from place to place. */
export type Sha256 = (...parts: readonly Uint8Array[]) => Uint8Array;

export { hashBytes };
/** Places in a tree are 31-bit numbers. */
const leavesMax: number = 2 ** 31 - 1;

const tags = {
  logits: Uint8Array.of(logitsTag),
  token: Uint8Array.of(tokenTag),
  chain: Uint8Array.of(chainTag),
  node: Uint8Array.of(nodeTag),
} as const;

/** Merkle tree hash over hashes, as RFC 6962 shapes it: the left part is the largest power of two. */
export function merkleRoot(sha256: Sha256, leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256();
  // Level by level: an odd one at the end goes up as it is, which gives the same shape.
  let level = leaves;
  while (level.length > 1) {
    const next: Uint8Array[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const right = level[i + 1];
      next.push(right === undefined ? level[i]! : sha256(tags.node, level[i]!, right));
    }
    level = next;
  }
  return level[0]!;
}

/** Hashes that prove a leaf's place in a tree, from the leaf upwards. */
export function merklePath(sha256: Sha256, leaves: readonly Uint8Array[], index: number): Uint8Array[] {
  const path: Uint8Array[] = [];
  let level = leaves;
  for (let at = index; level.length > 1; at >>= 1) {
    const sibling = level[at ^ 1];
    if (sibling !== undefined) path.push(sibling);
    level = Array.from({ length: Math.ceil(level.length / 2) }, (_, i) =>
      merkleRoot(sha256, level.slice(2 * i, 2 * i + 2)),
    );
  }
  return path;
}

/** Whether `path` leads from leaf `index` of `count` to `root`. The verifier must know `count` from elsewhere. */
export function isMerklePath(
  sha256: Sha256,
  root: Uint8Array,
  leaf: Uint8Array,
  index: number,
  count: number,
  path: readonly Uint8Array[],
): boolean {
  // Anything else would be taken for the place of another leaf.
  if (!Number.isInteger(index) || index < 0 || index >= count || count > leavesMax) return false;
  let node = leaf;
  let used = 0;
  let at = index;
  for (let width = count; width > 1; width = Math.ceil(width / 2), at >>= 1) {
    if ((at ^ 1) >= width) continue;
    const sibling = path[used++];
    if (sibling === undefined) return false;
    node = at % 2 === 0 ? sha256(tags.node, node, sibling) : sha256(tags.node, sibling, node);
  }
  return used === path.length && equalBytes(node, root);
}

/** For comparing logits, 32 bits each, little-endian. They are not committed to: they follow from the last layer's leaf. */
export function logitsHash(sha256: Sha256, logits: Int32Array): Uint8Array {
  return sha256(tags.logits, littleEndian(logits));
}

export function tokenLeaf(sha256: Sha256, token: number): Uint8Array {
  return sha256(tags.token, littleEndian(Int32Array.of(token)));
}

/** The chain's next head; before the first position it is 32 zeros. */
export function chainHead(sha256: Sha256, before: Uint8Array, token: number, row: Uint8Array): Uint8Array {
  return sha256(tags.chain, before, littleEndian(Int32Array.of(token)), row);
}

function littleEndian(values: Int32Array): Uint8Array {
  const isNative = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  if (isNative) return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setInt32(4 * i, value, true);
  return bytes;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
