/**
 * Residual vectors on their way to the next stage: exact, and compact. In groups of 32 numbers each is written with
 * as many bits as the largest of its group needs: about 18 instead of 32.
 *
 *     byte per group: bits of its numbers, 0 … 32   |   numbers in two's complement, lowest bit first, without gaps
 */
import { SkeinError } from "../../util/errors.ts";

const groupSize = 32;

export function packResidual(residual: Int32Array): Uint8Array {
  const widths = widthsOf(residual);
  const bits = widths.reduce((sum, width, group) => sum + width * groupLength(residual.length, group), 0);
  const packed = new Uint8Array(widths.length + Math.ceil(bits / 8));
  packed.set(widths);
  let at = widths.length * 8;
  for (const [i, value] of residual.entries()) {
    const width = widths[Math.floor(i / groupSize)]!;
    for (let bit = 0; bit < width;) {
      const room = Math.min(8 - (at % 8), width - bit);
      packed[at >> 3]! |= ((value >> bit) & ((1 << room) - 1)) << (at % 8);
      at += room;
      bit += room;
    }
  }
  return packed;
}

/** @throws SkeinError `invalid_request` unless `packed` is what `packResidual` makes of `dim` numbers */
export function unpackResidual(packed: Uint8Array, dim: number): Int32Array {
  const groups = Math.ceil(dim / groupSize);
  const widths = packed.subarray(0, groups);
  const bits = widths.reduce((sum, width, group) => sum + width * groupLength(dim, group), 0);
  const isRightSize = widths.length === groups && packed.length === groups + Math.ceil(bits / 8);
  if (!isRightSize || widths.some((width) => width > 32)) throw broken(packed.length, dim);
  const residual = new Int32Array(dim);
  let at = groups * 8;
  for (let i = 0; i < dim; i++) {
    const width = widths[Math.floor(i / groupSize)]!;
    let value = 0;
    for (let bit = 0; bit < width;) {
      const room = Math.min(8 - (at % 8), width - bit);
      value |= ((packed[at >> 3]! >> (at % 8)) & ((1 << room) - 1)) << bit;
      at += room;
      bit += room;
    }
    residual[i] = width === 0 ? 0 : (value << (32 - width)) >> (32 - width);
  }
  // One vector has one encoding: widths are the smallest, and nothing hides behind the last number.
  const again = widthsOf(residual);
  const isCanonical = again.every((width, group) => width === widths[group]);
  if (!isCanonical || (at % 8 !== 0 && packed.at(-1)! >> (at % 8) !== 0)) throw broken(packed.length, dim);
  return residual;
}

/** Bits in two's complement of each group's largest number; 0 for a group of zeros. */
function widthsOf(residual: Int32Array): Uint8Array {
  const widths = new Uint8Array(Math.ceil(residual.length / groupSize));
  for (const [i, value] of residual.entries()) {
    const width = value === 0 ? 0 : 33 - Math.clz32(value < 0 ? ~value : value);
    const group = Math.floor(i / groupSize);
    widths[group] = Math.max(widths[group]!, width);
  }
  return widths;
}

function groupLength(length: number, group: number): number {
  return Math.min(groupSize, length - group * groupSize);
}

function broken(bytes: number, dim: number): SkeinError {
  return new SkeinError("invalid_request", `${bytes} bytes are not a residual vector of ${dim} numbers.`);
}
