/** Stored numbers as 32-bit floats: the same ones that ggml and torch compute from them. */
import { halfAt, halfFloats } from "./half-floats.ts";
import { decodePacked, isPackedType, packedBlocks, type PackedType } from "./packed-elements.ts";

export type ElementType = "F32" | "F16" | "BF16" | "Q8_0" | PackedType;

/** Elements and bytes of what is stored together. */
const blocks: Readonly<Record<ElementType, { elements: number; bytes: number }>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  // A scale in F16, then 32 signed bytes.
  Q8_0: { elements: 32, bytes: 34 },
  ...packedBlocks,
};

export const elementTypes: readonly string[] = Object.keys(blocks);

export function isElementType(name: string): name is ElementType {
  return Object.hasOwn(blocks, name);
}

/** Bytes of `columns` elements; they must be whole blocks. */
export function bytesOfRow(type: ElementType, columns: number): number {
  const block = blocks[type];
  return (columns / block.elements) * block.bytes;
}

/** Fills `out` with the elements of `bytes`, which are exactly as many. */
export function decodeElements(type: ElementType, bytes: Uint8Array, out: Float32Array): void {
  if (isPackedType(type)) return decodePacked(type, bytes, out);
  switch (type) {
    case "F32":
      return decodeF32(bytes, out);
    case "F16":
      return decodeF16(bytes, out);
    case "BF16":
      return decodeBf16(bytes, out);
    case "Q8_0":
      return decodeQ8(bytes, out);
  }
}

/** Index of the first NaN or infinity; -1 without. */
export function findNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    // Faster than Number.isFinite: zero for finite numbers, NaN for all others.
    if (value - value !== 0) return i;
  }
  return -1;
}

function decodeF32(bytes: Uint8Array, out: Float32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < out.length; i++) out[i] = view.getFloat32(4 * i, true);
}

function decodeF16(bytes: Uint8Array, out: Float32Array): void {
  const table = halfFloats();
  for (let i = 0, at = 0; i < out.length; i++, at += 2) out[i] = table[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

/** The upper half of the bits of a 32-bit float. */
function decodeBf16(bytes: Uint8Array, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0, at = 0; i < bits.length; i++, at += 2)
    bits[i] = (bytes[at]! << 16) | (bytes[at + 1]! << 24);
}

function decodeQ8(bytes: Uint8Array, out: Float32Array): void {
  for (let i = 0, at = 0; i < out.length; i += 32, at += 34) {
    const scale = halfAt(bytes, at);
    for (let j = 0; j < 32; j++) out[i + j] = ((bytes[at + 2 + j]! << 24) >> 24) * scale;
  }
}
