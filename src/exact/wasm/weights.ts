/** Puts the weights of a model into the kernels' memory as they arrive. */
import type { LayerTensor, TensorRef } from "../../formats/model-source.ts";
import type { ExactShape, LayerRange, Matrix, NormWeights } from "../model/model.ts";
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
  const weights = placeTiles(memory, matrix);
  const multipliers = memory.place(matrix.multipliers);
  const exponents = memory.place(matrix.exponents);
  const bias = matrix.bias === null ? 0 : memory.place(matrix.bias);
  const share = tileRows * Math.ceil(rows / tileRows / threads);
  const slices = Array.from({ length: threads }, (_, thread): MatrixSlice => {
    const first = Math.min(rows, thread * share);
    const count = Math.min(share, rows - first);
    const record = memory.place(
      Int32Array.of(
        weights + first * columns,
        multipliers + 2 * first,
        exponents + first,
        bias === 0 ? 0 : bias + 4 * first,
        count,
        columns,
      ),
    );
    return { record, first, count };
  });
  return { slices, weights, columns, rows, multipliers, exponents };
}

/** Rows that lie side by side, and columns of one of them that follow each other; see assembly/linear.ts. */
const tileRows = 4;
const tileColumns = 16;

function placeTiles(memory: KernelMemory, { rows, columns, weights }: Matrix): number {
  const address = memory.allocate(Math.ceil(rows / tileRows) * tileRows * columns);
  const into = new Int8Array(memory.buffer);
  for (let row = 0; row < rows; row++) {
    const start = firstOfRow(address, columns, row);
    for (let column = 0; column < columns; column += tileColumns) {
      const at = row * columns + column;
      into.set(weights.subarray(at, at + tileColumns), start + tileRows * column);
    }
  }
  return address;
}

/** Address of a row's first weight; its next sixteen lie four times as far. */
export function firstOfRow(address: number, columns: number, row: number): number {
  const inTile = row % tileRows;
  return address + (row - inTile) * columns + inTile * tileColumns;
}
