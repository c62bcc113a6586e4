/**
 * Tensors as bytes, in the one way that is hashed and stored (docs/EXACT.md, "Manifest"); numbers are little-endian.
 *
 *     matrix   weights (1 byte each, row by row) | multipliers (2) | exponents (1) | bias (4, where there is one)
 *     norm     mantissas (4) | exponent (1)
 */
import { extentOf, type TensorRef } from "../../formats/model-source.ts";
import { type ExactShape, type Matrix, type NormWeights, qkvBits } from "./model.ts";
import { isNorm } from "./sink.ts";

const biased: readonly TensorRef["kind"][] = ["q", "k", "v"];

export interface TensorExtent {
  readonly rows: number;
  readonly columns: number;
  readonly hasBias: boolean;
  readonly isNorm: boolean;
  readonly bytes: number;
}

export function tensorExtent(shape: ExactShape, kind: TensorRef["kind"]): TensorExtent {
  const { rows, columns } = extentOf(shape, kind);
  const hasBias = shape.hasQkvBias && biased.includes(kind);
  const bytes = isNorm(kind) ? 4 * columns + 1 : rows * (columns + 3 + (hasBias ? 4 : 0));
  return { rows, columns, hasBias, isNorm: isNorm(kind), bytes };
}

/** The parts whose bytes follow one another. */
export function bytesOfMatrix({ weights, multipliers, exponents, bias }: Matrix): Uint8Array[] {
  return [weights, multipliers, exponents, ...(bias === null ? [] : [bias])].map(littleEndian);
}

export function bytesOfNorm({ mantissas, exponent }: NormWeights): Uint8Array[] {
  return [littleEndian(mantissas), littleEndian(Int8Array.of(exponent))];
}

/** `bytes` are exactly those of the tensor. Weights are not copied. */
export function matrixOfBytes(extent: TensorExtent, bytes: Uint8Array): Matrix {
  const { rows, columns, hasBias } = extent;
  const count = rows * columns;
  const part = (start: number, length: number): Uint8Array => bytes.subarray(start, start + length);
  return {
    rows,
    columns,
    weights: new Int8Array(bytes.buffer, bytes.byteOffset, count),
    multipliers: Int16Array.from({ length: rows }, numbersIn(part(count, 2 * rows), 2)),
    exponents: Int8Array.from(part(count + 2 * rows, rows)),
    bias: hasBias ? Int32Array.from({ length: rows }, numbersIn(part(count + 3 * rows, 4 * rows), 4)) : null,
  };
}

export function normOfBytes({ columns }: TensorExtent, bytes: Uint8Array): NormWeights {
  const mantissas = Int32Array.from({ length: columns }, numbersIn(bytes, 4));
  return { mantissas, exponent: (bytes[4 * columns]! << 24) >> 24 };
}

/** Whether all numbers are such as the arithmetic allows; the import makes no others, but anybody can write a file. */
export function isMatrixInRange({ weights, multipliers, bias }: Matrix): boolean {
  const biasMax = 2 ** qkvBits - 1;
  return (
    !weights.includes(-128) &&
    multipliers.every((multiplier) => multiplier >= 2 ** 14) &&
    (bias === null || bias.every((value) => Math.abs(value) <= biasMax))
  );
}

export function isNormInRange({ mantissas }: NormWeights): boolean {
  return mantissas.every((mantissa) => Math.abs(mantissa) < 2 ** 23);
}

function numbersIn(bytes: Uint8Array, size: 2 | 4): (_: unknown, index: number) => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return (_, i) => (size === 2 ? view.getInt16(2 * i, true) : view.getInt32(4 * i, true));
}

function littleEndian(values: Int8Array | Int16Array | Int32Array): Uint8Array {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const isNative = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  if (isNative || values.BYTES_PER_ELEMENT === 1) return bytes;
  const swapped = bytes.slice();
  const size = values.BYTES_PER_ELEMENT;
  for (let i = 0; i < swapped.length; i += size) swapped.subarray(i, i + size).reverse();
  return swapped;
}
