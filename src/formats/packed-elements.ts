/**
 * ggml's block formats below eight bits as 32-bit floats. Scales have few enough bits that doubles hold every product
 * exactly; what is stored is rounded once, as ggml's reference code does it.
 */
import { halfAt } from "./half-floats.ts";

/** Bytes of a block; one of `Q…_K` has 256 elements, others have 32. */
export const packedBlocks = {
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q5_0: { elements: 32, bytes: 22 },
  Q5_1: { elements: 32, bytes: 24 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
} as const;

export type PackedType = keyof typeof packedBlocks;

export function isPackedType(name: string): name is PackedType {
  return Object.hasOwn(packedBlocks, name);
}

export function decodePacked(type: PackedType, bytes: Uint8Array, out: Float32Array): void {
  const block = packedBlocks[type];
  const decode = decoders[type];
  for (let to = 0, at = 0; to < out.length; to += block.elements, at += block.bytes) {
    decode(bytes.subarray(at, at + block.bytes), out.subarray(to, to + block.elements));
  }
}

type DecodeBlock = (block: Uint8Array, out: Float32Array) => void;

const decoders: Readonly<Record<PackedType, DecodeBlock>> = {
  // A scale, then 16 bytes: elements 0 … 15 in their lower halves, 16 … 31 in the upper ones.
  Q4_0: (block, out) => decodeSmall(block, out, { hasLeast: false, hasFifth: false }),
  // A scale, the least element.
  Q4_1: (block, out) => decodeSmall(block, out, { hasLeast: true, hasFifth: false }),
  // A scale, 32 fifth bits.
  Q5_0: (block, out) => decodeSmall(block, out, { hasLeast: false, hasFifth: true }),
  Q5_1: (block, out) => decodeSmall(block, out, { hasLeast: true, hasFifth: true }),
  // Two scales, 12 bytes of 6-bit scales, 128 bytes.
  Q4_K: (block, out) => decodeGroups(block, out, null, 16),
  // The same, with 32 bytes of fifth bits before the others.
  Q5_K: (block, out) => decodeGroups(block, out, 16, 48),
  Q6_K: decodeSixBits,
};

function decodeSmall(
  block: Uint8Array,
  out: Float32Array,
  { hasLeast, hasFifth }: { hasLeast: boolean; hasFifth: boolean },
): void {
  const scale = halfAt(block, 0);
  const fifthAt = hasLeast ? 4 : 2;
  const at = hasFifth ? fifthAt + 4 : fifthAt;
  const offset = hasLeast ? halfAt(block, 2) : scale * (hasFifth ? -16 : -8);
  for (let i = 0; i < 32; i++) {
    const byte = block[at + (i % 16)]!;
    const low = i < 16 ? byte & 15 : byte >> 4;
    const fifth = hasFifth ? (block[fifthAt + (i >> 3)]! >> (i & 7)) & 1 : 0;
    out[i] = (low + 16 * fifth) * scale + offset;
  }
}

/** Eight groups of 32 elements, each with a 6-bit scale and a 6-bit offset. */
function decodeGroups(block: Uint8Array, out: Float32Array, fifthAt: number | null, at: number): void {
  const scale = halfAt(block, 0);
  const least = halfAt(block, 2);
  for (let group = 0; group < 8; group++) {
    const step = scale * sixBits(block, group, 0);
    const offset = least * sixBits(block, group, 4);
    // Two groups share 32 bytes.
    const from = at + 32 * (group >> 1);
    for (let i = 0; i < 32; i++) {
      const byte = block[from + i]!;
      const low = group % 2 === 0 ? byte & 15 : byte >> 4;
      const fifth = fifthAt === null ? 0 : (block[fifthAt + i]! >> group) & 1;
      out[32 * group + i] = step * (low + 16 * fifth) - offset;
    }
  }
}

/** Scales (first 0) or offsets (first 4) of groups: the first four whole, of the others two bits stand above those. */
function sixBits(block: Uint8Array, group: number, first: 0 | 4): number {
  const scales = 4;
  if (group < 4) return block[scales + first + group]! & 63;
  const both = block[scales + 4 + group]!;
  const low = first === 0 ? both & 15 : both >> 4;
  return low | ((block[scales + first + group - 4]! >> 6) << 4);
}

/** 128 bytes of lower halves, 64 of upper quarters, 16 signed scales, and one for all. */
function decodeSixBits(block: Uint8Array, out: Float32Array): void {
  const scale = halfAt(block, 208);
  for (let i = 0; i < 256; i++) {
    const half = i >> 7;
    const part = (i >> 5) & 3;
    const byte = block[64 * half + (i & 31) + 32 * (part & 1)]!;
    const low = part < 2 ? byte & 15 : byte >> 4;
    const high = (block[128 + 32 * half + (i & 31)]! >> (2 * part)) & 3;
    const group = (block[192 + (i >> 4)]! << 24) >> 24;
    out[i] = scale * group * (low + 16 * high - 32);
  }
}
