/**
 * Turns a floating-point model into integers, tensor by tensor in canonical order, so that a model larger than memory can be
 * converted to a file. The order and the rounding are part of the specification (docs/EXACT.md, "Import").
 */
import { extentOf, type LayerTensor, type ModelSource, type TensorRef } from "../../formats/model-source.ts";
import { checkQuantization } from "../model/limits.ts";
import { type ExactShape, type Quantization, qkvBits, qkvFraction } from "../model/model.ts";
import { formatOf, isNorm, type ModelSink, tensorsOf } from "../model/sink.ts";
import { layerFactors, type LayerFactors } from "./factors.ts";
import { quantizeBias, quantizeNorm } from "./quantize.ts";
import { createRounder, type Rounder, type WithoutBias } from "./rounder.ts";

/** Floats held at a time while a matrix is read. */
export const floatsPerRead: number = 1 << 20;

export interface ConvertOptions {
  readonly signal: AbortSignal;
  /** Default: int8-row. */
  readonly quantization?: Quantization;
  /** Called with the number of weights done and of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface ConversionLoss {
  /** Root of the squares of all matrices' rounding errors by those of their weights, as the source gave them. */
  readonly weightError: number;
}

/** Sums over the matrices so far. */
interface Squares {
  error: number;
  weights: number;
}

/** @throws SkeinError `invalid_model_file`, `unsupported_model` (widths that the quantization cannot do), `cancelled` */
export async function convertModel(
  source: ModelSource,
  shape: ExactShape,
  sink: ModelSink,
  options: ConvertOptions,
): Promise<ConversionLoss> {
  const quantization = options.quantization ?? "int8-row";
  checkQuantization(quantization, shape);
  const tensors = tensorsOf(shape);
  const sizeOf = ({ kind }: TensorRef): number => {
    const { rows, columns } = extentOf(source.shape, kind);
    return rows * columns;
  };
  const total = tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0);
  let done = 0;
  let factors: LayerFactors | null = null;
  const squares: Squares = { error: 0, weights: 0 };
  for (const tensor of tensors) {
    const onRows = (weights: number): void => options.onProgress?.((done += weights), total);
    if (tensor.kind === "attnNorm") factors = await layerFactors(source, tensor.layer, options.signal);
    const scale = scalesOf(tensor, factors);
    if (isNorm(tensor.kind)) {
      const [weights] = await readAll(source, tensor, options.signal);
      await sink.norm(tensor, quantizeNorm(Float64Array.from(weights!, (w, i) => w * scale.column(i))));
      onRows(weights!.length);
    } else {
      const { rows, columns } = extentOf(source.shape, tensor.kind);
      const rounder = createRounder(formatOf(quantization, tensor.kind), rows, columns);
      const matrix = await convertMatrix(source, tensor, scale, rounder, squares, options.signal, onRows);
      const bias = await convertBias(source, tensor, scale, options.signal);
      await sink.matrix(tensor, { ...matrix, bias });
    }
  }
  return { weightError: squares.weights === 0 ? 0 : Math.sqrt(squares.error / squares.weights) };
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
  rounder: Rounder,
  squares: Squares,
  signal: AbortSignal,
  onRows: (weights: number) => void,
): Promise<WithoutBias> {
  const { columns } = rounder.matrix;
  const row = new Float64Array(columns);
  for await (const [first, block] of readBlocks(source, tensor, signal)) {
    for (let j = 0; j * columns < block.length; j++) {
      const at = first + j;
      const rowScale = scale.row(at);
      for (let i = 0; i < columns; i++) row[i] = block[j * columns + i]! * rowScale * scale.column(i);
      rounder.put(at, row);
      for (let i = 0; i < columns; i++) {
        const given = block[j * columns + i]!;
        squares.error += (row[i]! / (rowScale * scale.column(i)) - given) ** 2;
        squares.weights += given ** 2;
      }
    }
    onRows(block.length);
  }
  return rounder.matrix;
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
