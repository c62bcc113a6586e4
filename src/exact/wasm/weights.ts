/** Puts the weights of a model into the kernels' memory as they arrive. */
import type { LayerTensor, TensorRef } from "../../formats/model-source.ts";
import {
  type ExactShape,
  type GroupMatrix,
  groupColumns,
  type LayerRange,
  type Matrix,
  type NormWeights,
  type RowMatrix,
} from "../model/model.ts";
import { isInRange, type ModelSink } from "../model/sink.ts";
import type { KernelMemory } from "./kernels.ts";

/** The rows of a matrix that one thread computes. */
export interface MatrixSlice {
  /** The record that kernels read (`MatrixRef` in assembly/linear.ts). */
  readonly record: number;
  readonly first: number;
  readonly count: number;
}

/** Addresses of a matrix. */
export interface PlacedMatrix {
  readonly format: Matrix["format"];
  /** One for each thread; some may be empty. */
  readonly slices: readonly MatrixSlice[];
  readonly weights: number;
  readonly columns: number;
  readonly rows: number;
  readonly multipliers: number;
  readonly exponents: number;
}

export interface PlacedNorm {
  readonly mantissas: number;
  readonly exponent: number;
}

export type PlacedLayer = Record<"q" | "k" | "v" | "attnOutput" | "gate" | "up" | "down", PlacedMatrix> &
  Record<"attnNorm" | "ffnNorm", PlacedNorm> &
  Partial<Record<"qNorm" | "kNorm", PlacedNorm>>;

export interface PlacedModel {
  readonly layers: readonly PlacedLayer[];
  readonly embedding: PlacedMatrix | undefined;
  readonly outputNorm: PlacedNorm | undefined;
  readonly output: PlacedMatrix | undefined;
}

/** A sink into memory; `placed()` is complete when every tensor of the range has come. */
export function placeModel(
  memory: KernelMemory,
  shape: ExactShape,
  range: LayerRange,
  threads: number,
): ModelSink & { placed(): PlacedModel } {
  const globals: Partial<Record<TensorRef["kind"], PlacedMatrix | PlacedNorm>> = {};
  const layers: Partial<Record<LayerTensor, PlacedMatrix | PlacedNorm>>[] = [];
  const keep = (tensor: TensorRef, value: PlacedMatrix | PlacedNorm): void => {
    if ("layer" in tensor) (layers[tensor.layer - range.start] ??= {})[tensor.kind] = value;
    else globals[tensor.kind] = value;
  };
  return {
    norm(tensor: TensorRef, { mantissas, exponent }: NormWeights) {
      if (!isInRange(tensor, shape, range)) return;
      keep(tensor, { mantissas: memory.place(mantissas), exponent });
    },
    matrix(tensor: TensorRef, matrix: Matrix) {
      if (isInRange(tensor, shape, range)) keep(tensor, placeMatrix(memory, matrix, threads));
    },
    placed: () => ({
      layers: layers as PlacedLayer[],
      embedding: globals["embedding"] as PlacedMatrix | undefined,
      outputNorm: globals["outputNorm"] as PlacedNorm | undefined,
      output: globals["output"] as PlacedMatrix | undefined,
    }),
  };
}

export function placeMatrix(memory: KernelMemory, matrix: Matrix, threads: number): PlacedMatrix {
  const { rows, columns } = matrix;
  const weights = matrix.format === "int8-row" ? placeTiles(memory, matrix) : placeGroups(memory, matrix);
  const scales = matrix.format === "int8-row" ? 0 : placeScales(memory, matrix);
  const multipliers = memory.place(matrix.multipliers);
  const exponents = memory.place(matrix.exponents);
  const bias = matrix.bias === null ? 0 : memory.place(matrix.bias);
  const { format } = matrix;
  /** Weights of a byte. */
  const packed = format === "int8-row" ? 1 : 2;
  const groups = columns / groupColumns;
  const share = tileRows * Math.ceil(rows / tileRows / threads);
  const slices = Array.from({ length: threads }, (_, thread): MatrixSlice => {
    const first = Math.min(rows, thread * share);
    const count = Math.min(share, rows - first);
    const record = memory.place(
      Int32Array.of(
        weights + (first * columns) / packed,
        multipliers + 2 * first,
        exponents + first,
        bias === 0 ? 0 : bias + 4 * first,
        count,
        columns,
        scales === 0 ? 0 : scales + first * groups,
      ),
    );
    return { record, first, count };
  });
  return { format, slices, weights, columns, rows, multipliers, exponents };
}

/** Rows that lie side by side, and columns of one of them that follow each other; see assembly/linear.ts. */
const tileRows = 4;
const tileColumns = 16;

function placeTiles(memory: KernelMemory, { rows, columns, weights }: RowMatrix): number {
  const address = memory.allocate(Math.ceil(rows / tileRows) * tileRows * columns);
  // By words: views of sixteen bytes would cost more than what they copy.
  const into = new Int32Array(memory.buffer);
  const from = wordsOf(weights);
  const tileWords = tileColumns / 4;
  for (let row = 0; row < rows; row++) {
    let at = (row * columns) / 4;
    const end = at + columns / 4;
    for (let to = firstOfRow(address, columns, row) / 4; at < end; to += tileRows * tileWords) {
      for (let i = 0; i < tileWords; i++) into[to + i] = from[at++]!;
    }
  }
  return address;
}

function wordsOf(bytes: Int8Array): Int32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Int32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}

/** Address of a row's first weight; its next sixteen lie four times as far. */
export function firstOfRow(address: number, columns: number, row: number): number {
  const inTile = row % tileRows;
  return address + (row - inTile) * columns + inTile * tileColumns;
}

/** See assembly/grouped.ts: 32 bits hold eight columns of a row, and four rows follow one another. */
function placeGroups(memory: KernelMemory, { rows, columns, weights }: GroupMatrix): number {
  const address = memory.allocate((Math.ceil(rows / tileRows) * tileRows * columns) / 2);
  const into = new DataView(memory.buffer);
  const from = new DataView(weights.buffer, weights.byteOffset, weights.byteLength);
  for (let row = 0; row < rows; row++) {
    const start = (row * columns) / 2;
    const inTile = row % tileRows;
    const tile = address + ((row - inTile) * columns) / 2 + 4 * inTile;
    for (let at = 0; at < columns / 2; at += 4) {
      into.setUint32(tile + tileRows * at, spreadWeights(from.getUint32(start + at, true)), true);
    }
  }
  return address;
}

/** Adds 8 to eight four-bit numbers and puts those of even columns first, then those of odd ones. */
function spreadWeights(packed: number): number {
  const plain = packed ^ 0x88888888;
  return everySecond(plain) | (everySecond(plain >>> 4) << 16);
}

function everySecond(packed: number): number {
  const single = packed & 0x0f0f0f0f;
  const pairs = (single | (single >>> 4)) & 0x00ff00ff;
  return (pairs | (pairs >>> 8)) & 0xffff;
}

function placeScales(memory: KernelMemory, { rows, columns, scales }: GroupMatrix): number {
  const groups = columns / groupColumns;
  const address = memory.allocate(Math.ceil(rows / tileRows) * tileRows * groups);
  const into = new Int8Array(memory.buffer, address);
  for (let row = 0; row < rows; row++) {
    const inTile = row % tileRows;
    for (let g = 0; g < groups; g++) {
      into[(row - inTile) * groups + tileRows * g + inTile] = scales[row * groups + g]!;
    }
  }
  return address;
}
