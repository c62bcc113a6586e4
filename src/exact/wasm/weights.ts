/** Where the weights of a model are in the kernels' memory. */
import type { LayerTensor, TensorRef } from "../../formats/model-source.ts";
import { groupColumns, type LayerRange, type Matrix } from "../model/model.ts";
import type { TensorExtent } from "../model/weight-bytes.ts";
import type { KernelMemory } from "./kernels.ts";

/** The rows of a matrix that one thread computes. */
export interface MatrixSlice {
  /** The record that kernels read (`MatrixRef` in assembly/linear.ts). */
  readonly record: number;
  readonly first: number;
  readonly count: number;
}

/** Addresses of a matrix. Weights and scales are in the order of the kernels, the others in that of the rows. */
export interface PlacedMatrix {
  readonly isNorm: false;
  readonly format: Matrix["format"];
  /** One for each thread; some may be empty. */
  readonly slices: readonly MatrixSlice[];
  readonly weights: number;
  readonly columns: number;
  readonly rows: number;
  /** 0: none. */
  readonly scales: number;
  readonly multipliers: number;
  readonly exponents: number;
  /** 0: none. */
  readonly bias: number;
}

export interface PlacedNorm {
  readonly mantissas: number;
  readonly exponent: number;
}

/** Of a norm, whose exponent comes with its bytes: it follows the mantissas. */
interface AllocatedNorm {
  readonly isNorm: true;
  readonly mantissas: number;
  readonly columns: number;
}

export type AllocatedTensor = PlacedMatrix | AllocatedNorm;

/** Those of a range, in canonical order. */
export type AllocatedTensors = readonly (readonly [TensorRef, AllocatedTensor])[];

export type PlacedLayer = Record<"q" | "k" | "v" | "attnOutput" | "gate" | "up" | "down", PlacedMatrix> &
  Record<"attnNorm" | "ffnNorm", PlacedNorm> &
  Partial<Record<"qNorm" | "kNorm", PlacedNorm>>;

export interface PlacedModel {
  readonly layers: readonly PlacedLayer[];
  readonly embedding: PlacedMatrix | undefined;
  readonly outputNorm: PlacedNorm | undefined;
  readonly output: PlacedMatrix | undefined;
}

/** Rows that lie side by side, and columns of one of them that follow each other; see assembly/linear.ts. */
const tileRows = 4;
const tileColumns = 16;

/** Memory for a tensor's numbers, which are still missing. */
export function allocateTensor(
  memory: KernelMemory,
  { rows, columns, hasBias, isNorm, format }: Omit<TensorExtent, "bytes">,
  threads: number,
): AllocatedTensor {
  if (isNorm) return { isNorm, mantissas: memory.allocate(4 * columns + 1), columns };
  const wholeRows = Math.ceil(rows / tileRows) * tileRows;
  const isGrouped = format === "int4-group32";
  const packed = weightsPerByte(format);
  const weights = memory.allocate((wholeRows * columns) / packed);
  const scales = isGrouped ? memory.allocate((wholeRows * columns) / groupColumns) : 0;
  const multipliers = memory.allocate(2 * rows);
  const exponents = memory.allocate(rows);
  const bias = hasBias ? memory.allocate(4 * rows) : 0;
  const share = tileRows * Math.ceil(rows / tileRows / threads);
  const slices = Array.from({ length: threads }, (_, thread): MatrixSlice => {
    const first = Math.min(rows, thread * share);
    const count = Math.min(share, rows - first);
    const record = memory.place(
      Int32Array.of(
        weights + (first * columns) / packed,
        multipliers + 2 * first,
        exponents + first,
        hasBias ? bias + 4 * first : 0,
        count,
        columns,
        isGrouped ? scales + first * (columns / groupColumns) : 0,
      ),
    );
    return { record, first, count };
  });
  return { isNorm, format, slices, weights, columns, rows, scales, multipliers, exponents, bias };
}

/** Address of a row's first weight of 8 bits; its next sixteen lie four times as far. */
export function firstOfRow(address: number, columns: number, row: number): number {
  const inTile = row % tileRows;
  return address + (row - inTile) * columns + inTile * tileColumns;
}

/** What follows one another in a tensor's bytes (model/weight-bytes.ts), and where it goes. */
export interface Section {
  /** Numbers that kernels have in another order, or the bytes as they are. */
  readonly kind: "rows" | "groups" | "scales" | "plain";
  readonly address: number;
  readonly bytes: number;
  readonly columns: number;
}

export function sectionsOf(tensor: AllocatedTensor): Section[] {
  const { columns } = tensor;
  const plain = (address: number, bytes: number): Section => ({ kind: "plain", address, bytes, columns });
  if (tensor.isNorm) return [plain(tensor.mantissas, 4 * columns + 1)];
  const { format, rows, weights, scales, multipliers, exponents, bias } = tensor;
  const all: Section[] = [
    {
      kind: format === "int8-row" ? "rows" : "groups",
      address: weights,
      bytes: (rows * columns) / weightsPerByte(format),
      columns,
    },
  ];
  if (scales !== 0)
    all.push({ kind: "scales", address: scales, bytes: (rows * columns) / groupColumns, columns });
  all.push(plain(multipliers, 2 * rows), plain(exponents, rows));
  if (bias !== 0) all.push(plain(bias, 4 * rows));
  return all;
}

function weightsPerByte(format: Matrix["format"]): number {
  return format === "int8-row" ? 1 : 2;
}

/** The model of a range from its tensors, whose numbers are there. */
export function placedModel(memory: KernelMemory, tensors: AllocatedTensors, range: LayerRange): PlacedModel {
  const view = new DataView(memory.buffer);
  const globals: Partial<Record<TensorRef["kind"], PlacedMatrix | PlacedNorm>> = {};
  const layers: Partial<Record<LayerTensor, PlacedMatrix | PlacedNorm>>[] = [];
  for (const [tensor, allocated] of tensors) {
    const placed = allocated.isNorm
      ? {
          mantissas: allocated.mantissas,
          exponent: view.getInt8(allocated.mantissas + 4 * allocated.columns),
        }
      : allocated;
    if ("layer" in tensor) (layers[tensor.layer - range.start] ??= {})[tensor.kind] = placed;
    else globals[tensor.kind] = placed;
  }
  return {
    layers: layers as PlacedLayer[],
    embedding: globals["embedding"] as PlacedMatrix | undefined,
    outputNorm: globals["outputNorm"] as PlacedNorm | undefined,
    output: globals["output"] as PlacedMatrix | undefined,
  };
}
