/**
 * Turns a floating-point model into integers, tensor by tensor in canonical order, so that a model larger than memory can be
 * converted to a file. The order and the rounding are part of the specification (docs/EXACT.md, "Import").
 */
import { extentOf, type LayerTensor, type ModelSource, type TensorRef } from "../../formats/model-source.ts";
import { type ExactShape, type Matrix, qkvBits, qkvFraction } from "../model/model.ts";
import { isNorm, type ModelSink, tensorsOf } from "../model/sink.ts";
import { layerFactors, type LayerFactors } from "./factors.ts";
import { quantizeBias, quantizeNorm, quantizeRow } from "./quantize.ts";

/** Floats held at a time while a matrix is read. */
export const floatsPerRead: number = 1 << 20;

export interface ConvertOptions {
  readonly signal: AbortSignal;
  /** Called with the number of weights done and of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** @throws SkeinError `invalid_model_file`, `cancelled` */
export async function convertModel(
  source: ModelSource,
  shape: ExactShape,
  sink: ModelSink,
  options: ConvertOptions,
): Promise<void> {
  const tensors = tensorsOf(shape);
  const sizeOf = ({ kind }: TensorRef): number => {
    const { rows, columns } = extentOf(source.shape, kind);
    return rows * columns;
  };
  const total = tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0);
  let done = 0;
  let factors: LayerFactors | null = null;
  for (const tensor of tensors) {
    const onRows = (weights: number): void => options.onProgress?.((done += weights), total);
    if (tensor.kind === "attnNorm") factors = await layerFactors(source, tensor.layer, options.signal);
    const scale = scalesOf(tensor, factors);
    if (isNorm(tensor.kind)) {
      const [weights] = await readAll(source, tensor, options.signal);
      await sink.norm(tensor, quantizeNorm(Float64Array.from(weights!, (w, i) => w * scale.column(i))));
      onRows(weights!.length);
    } else {
      const matrix = await convertMatrix(source, tensor, scale, options.signal, onRows);
      const bias = await convertBias(source, tensor, scale, options.signal);
      await sink.matrix(tensor, { ...matrix, bias });
    }
  }
}

interface Scales {
  readonly row: (row: number) => number;
  readonly column: (column: number) => number;
}

const plain = (): number => 1;

/** What rows and columns are multiplied with before rounding. */
function scalesOf({ kind }: TensorRef, factors: LayerFactors | null): Scales {
  if (factors === null) return { row: plain, column: plain };
  const at = (values: Float64Array) => (i: number) => values[i]!;
  switch (kind) {
    case "q":
      return { row: at(factors.q), column: plain };
    case "k":
      return { row: at(factors.k), column: plain };
    case "qNorm":
      return { row: plain, column: at(factors.qNorm) };
    case "kNorm":
      return { row: plain, column: at(factors.kNorm) };
    case "v":
      return { row: at(factors.v), column: plain };
    case "attnOutput":
      return { row: plain, column: at(factors.attnOutput) };
    case "up":
      return { row: at(factors.up), column: plain };
    case "down":
      return { row: plain, column: at(factors.down) };
    default:
      return { row: plain, column: plain };
  }
}

async function convertMatrix(
  source: ModelSource,
  tensor: TensorRef,
  scale: Scales,
  signal: AbortSignal,
  onRows: (weights: number) => void,
): Promise<Omit<Matrix, "bias">> {
  const { rows, columns } = extentOf(source.shape, tensor.kind);
  const weights = new Int8Array(rows * columns);
  const multipliers = new Int16Array(rows);
  const exponents = new Int8Array(rows);
  const row = new Float64Array(columns);
  for await (const [first, block] of readBlocks(source, tensor, signal)) {
    for (let j = 0; j * columns < block.length; j++) {
      const at = first + j;
      const rowScale = scale.row(at);
      for (let i = 0; i < columns; i++) row[i] = block[j * columns + i]! * rowScale * scale.column(i);
      const into = weights.subarray(at * columns, (at + 1) * columns);
      const { multiplier, exponent } = quantizeRow(row, into);
      multipliers[at] = multiplier;
      exponents[at] = exponent;
    }
    onRows(block.length);
  }
  return { rows, columns, weights, multipliers, exponents };
}

const biasOf: Partial<Record<TensorRef["kind"], LayerTensor>> = { q: "qBias", k: "kBias", v: "vBias" };

async function convertBias(
  source: ModelSource,
  tensor: TensorRef,
  scale: Scales,
  signal: AbortSignal,
): Promise<Int32Array | null> {
  const kind = biasOf[tensor.kind];
  if (!source.shape.hasQkvBias || kind === undefined || !("layer" in tensor)) return null;
  const [bias] = await readAll(source, { kind, layer: tensor.layer }, signal);
  return quantizeBias(
    Float64Array.from(bias!, (b, i) => b * scale.row(i)),
    qkvFraction,
    qkvBits,
  );
}

async function readAll(source: ModelSource, tensor: TensorRef, signal: AbortSignal): Promise<Float32Array[]> {
  const blocks: Float32Array[] = [];
  for await (const [, block] of readBlocks(source, tensor, signal)) blocks.push(block);
  return blocks;
}

/** A tensor's rows in blocks of bounded size, each with the number of its first row. */
export async function* readBlocks(
  source: ModelSource,
  tensor: TensorRef,
  signal: AbortSignal,
): AsyncGenerator<readonly [number, Float32Array]> {
  const { rows, columns } = extentOf(source.shape, tensor.kind);
  const step = Math.max(1, Math.floor(floatsPerRead / columns));
  for (let row = 0; row < rows; row += step) {
    yield [row, await source.readRows(tensor, row, Math.min(step, rows - row), signal)];
  }
}
