/**
 * Tensors as bytes, in the one way that is hashed and stored (docs/EXACT.md, "Manifest"); numbers are little-endian.
 *
 *     matrix   weights (1 byte each, row by row) | multipliers (2) | exponents (1) | bias (4, where there is one)
 *              with 4 bits: weights (2 in a byte) | scales (1 byte each, row by row) | as above
 *     norm     mantissas (4) | exponent (1)
 */
import { extentOf, type TensorRef } from "../../formats/model-source.ts";
import {
  type ExactShape,
  groupColumns,
  type Matrix,
  type NormWeights,
  type Quantization,
  qkvBits,
} from "./model.ts";
import { formatOf, isNorm } from "./sink.ts";

const biased: readonly TensorRef["kind"][] = ["q", "k", "v"];

export interface TensorExtent {
  readonly rows: number;
  readonly columns: number;
  readonly hasBias: boolean;
  readonly isNorm: boolean;
  /** Of a matrix. */
  readonly format: Matrix["format"];
  readonly bytes: number;
}

export function tensorExtent(
  shape: ExactShape,
  quantization: Quantization,
  kind: TensorRef["kind"],
): TensorExtent {
  const { rows, columns } = extentOf(shape, kind);
  const hasBias = shape.hasQkvBias && biased.includes(kind);
  const format = formatOf(quantization, kind);
  const rowBytes = format === "int8-row" ? columns : columns / 2 + columns / groupColumns;
  const bytes = isNorm(kind) ? 4 * columns + 1 : rows * (rowBytes + 3 + (hasBias ? 4 : 0));
  return { rows, columns, hasBias, isNorm: isNorm(kind), format, bytes };
}

/** The parts whose bytes follow one another. */
export function bytesOfMatrix(matrix: Matrix): Uint8Array[] {
  const { weights, multipliers, exponents, bias } = matrix;
  const scales = matrix.format === "int8-row" ? [] : [matrix.scales];
  return [weights, ...scales, multipliers, exponents, ...(bias === null ? [] : [bias])].map(littleEndian);
}

export function bytesOfNorm({ mantissas, exponent }: NormWeights): Uint8Array[] {
  return [littleEndian(mantissas), littleEndian(Int8Array.of(exponent))];
}

/** `bytes` are exactly those of the tensor. Weights are not copied. */
export function matrixOfBytes(extent: TensorExtent, bytes: Uint8Array): Matrix {
  const { rows, columns, hasBias, format } = extent;
  const isGrouped = format === "int4-group32";
  const weightBytes = isGrouped ? (rows * columns) / 2 : rows * columns;
  const scaleBytes = isGrouped ? (rows * columns) / groupColumns : 0;
  let at = weightBytes + scaleBytes;
  const next = (length: number): Uint8Array => bytes.subarray(at, (at += length));
  const ofRows = {
    rows,
    columns,
    multipliers: Int16Array.from({ length: rows }, numbersIn(next(2 * rows), 2)),
    exponents: Int8Array.from(next(rows)),
    bias: hasBias ? Int32Array.from({ length: rows }, numbersIn(next(4 * rows), 4)) : null,
  };
  const { buffer, byteOffset: start } = bytes;
  if (!isGrouped) return { ...ofRows, format, weights: new Int8Array(buffer, start, weightBytes) };
  return {
    ...ofRows,
    format,
    weights: bytes.subarray(0, weightBytes),
    scales: new Int8Array(buffer, start + weightBytes, scaleBytes),
  };
}

export function normOfBytes({ columns }: TensorExtent, bytes: Uint8Array): NormWeights {
  const mantissas = Int32Array.from({ length: columns }, numbersIn(bytes, 4));
  return { mantissas, exponent: (bytes[4 * columns]! << 24) >> 24 };
}

/** Whether all numbers are such as the arithmetic allows; the import makes no others, but anybody can write a file. */
export function isMatrixInRange(matrix: Matrix): boolean {
  // Of four bits every pattern is a weight.
  const numbers = matrix.format === "int8-row" ? matrix.weights : matrix.scales;
  return !numbers.includes(-128) && areRowsInRange(matrix);
}

/** The same without weights and scales. */
export function areRowsInRange({
  format,
  multipliers,
  bias,
}: Pick<Matrix, "format" | "multipliers" | "bias">): boolean {
  const [least, below] = format === "int8-row" ? [2 ** 14, 2 ** 15] : [2 ** 12, 2 ** 13];
  const biasMax = 2 ** qkvBits - 1;
  return (
    multipliers.every((multiplier) => multiplier >= least && multiplier < below) &&
    (bias === null || bias.every((value) => Math.abs(value) <= biasMax))
  );
}

export function isNormInRange({ mantissas }: Pick<NormWeights, "mantissas">): boolean {
  return mantissas.every((mantissa) => Math.abs(mantissa) < 2 ** 23);
}

function numbersIn(bytes: Uint8Array, size: 2 | 4): (_: unknown, index: number) => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return (_, i) => (size === 2 ? view.getInt16(2 * i, true) : view.getInt32(4 * i, true));
}

function littleEndian(values: Uint8Array | Int8Array | Int16Array | Int32Array): Uint8Array {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const isNative = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  if (isNative || values.BYTES_PER_ELEMENT === 1) return bytes;
  const swapped = bytes.slice();
  const size = values.BYTES_PER_ELEMENT;
  for (let i = 0; i < swapped.length; i += size) swapped.subarray(i, i + size).reverse();
  return swapped;
}
