/** The bytes that are committed to, see docs/EXACT.md, "Commitments". All numbers are little-endian. */
import type { Block } from "../ops/integers.ts";
import type { ExactShape } from "../model/model.ts";

/** First byte of a leaf, so that nothing else can be taken for one. */
export const layerLeafTag = 0x01;

/** Bytes of `layerLeafBytes`: with keys and values, or of the embedding alone. */
export function layerLeafLength(shape: ExactShape, hasKeyValues: boolean): number {
  const kv = hasKeyValues ? 2 * shape.headsKv * (2 * shape.headDim + 1) : 0;
  return 1 + 4 * shape.dim + kv;
}

/**
 * What one layer made of one position, as it is hashed: the tag, residual vector (32 bits each), mantissas of keys and of values (16 bits
 * each, head by head), exponents of keys and of values (8 bits a head).
 */
export function layerLeafBytes(
  residual: Int32Array,
  kept: { readonly keys: readonly Block[]; readonly values: readonly Block[] } | null,
): Uint8Array {
  const blocks = kept === null ? [] : [...kept.keys, ...kept.values];
  const length = blocks.reduce(
    (sum, { mantissas }) => sum + 2 * mantissas.length + 1,
    1 + 4 * residual.length,
  );
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  bytes[0] = layerLeafTag;
  let at = 1;
  for (const value of residual) at = put(at, 4, view.setInt32.bind(view), value);
  for (const { mantissas } of blocks)
    for (const value of mantissas) at = put(at, 2, view.setInt16.bind(view), value);
  for (const { exponent } of blocks) view.setInt8(at++, exponent);
  return bytes;
}

function put(
  at: number,
  size: number,
  set: (at: number, value: number, littleEndian: boolean) => void,
  value: number,
): number {
  set(at, value, true);
  return at + size;
}
