/** Where the parts of a model go while it is converted or read: to a file, into an executor, or into an object. */
import type { LayerTensor, TensorRef } from "../../formats/model-source.ts";
import type {
  ExactLayer,
  ExactModel,
  ExactShape,
  LayerRange,
  Matrix,
  NormWeights,
  Quantization,
  RowMatrix,
} from "./model.ts";

/** Receives the tensors of a model in canonical order (`tensorsOf`); what it is given, it may keep. */
export interface ModelSink {
  norm(tensor: TensorRef, weights: NormWeights): Promise<void> | void;
  matrix(tensor: TensorRef, matrix: Matrix): Promise<void> | void;
}

const layerOrder: readonly LayerTensor[] = [
  "attnNorm",
  "q",
  "k",
  "v",
  "qNorm",
  "kNorm",
  "attnOutput",
  "ffnNorm",
  "gate",
  "up",
  "down",
];

/** Every tensor of a model in canonical order; biases belong to their matrix. */
export function tensorsOf(shape: ExactShape): TensorRef[] {
  const inLayer = layerOrder.filter((kind) => shape.hasQkNorm || (kind !== "qNorm" && kind !== "kNorm"));
  return [
    { kind: "embedding" },
    ...Array.from({ length: shape.layers }, (_, layer) => inLayer.map((kind) => ({ kind, layer }))).flat(),
    { kind: "outputNorm" },
    ...(shape.hasTiedEmbeddings ? [] : [{ kind: "output" } as const]),
  ];
}

export function isNorm(kind: TensorRef["kind"]): boolean {
  return kind.endsWith("Norm");
}

/** The format of a matrix: the first and the last one matter most, and the first one's rows are looked up. */
export function formatOf(quantization: Quantization, kind: TensorRef["kind"]): Matrix["format"] {
  return kind === "embedding" || kind === "output" ? "int8-row" : quantization;
}

/** Whether the stage of `range` needs a tensor. */
export function isInRange(tensor: TensorRef, shape: ExactShape, range: LayerRange): boolean {
  const hasLast = range.end === shape.layers;
  if ("layer" in tensor) return tensor.layer >= range.start && tensor.layer < range.end;
  return tensor.kind === "embedding" ? range.start === 0 || (hasLast && shape.hasTiedEmbeddings) : hasLast;
}

/** Builds a model in memory. `model()` is complete when every tensor of the range has come. */
export function collectModel(
  shape: ExactShape,
  range: LayerRange = { start: 0, end: shape.layers },
): ModelSink & { model(): ExactModel } {
  const global: Partial<Record<TensorRef["kind"], Matrix | NormWeights>> = {};
  const layers: Partial<Record<LayerTensor, Matrix | NormWeights>>[] = [];
  const keep = (tensor: TensorRef, value: Matrix | NormWeights): void => {
    if (!isInRange(tensor, shape, range)) return;
    if ("layer" in tensor) (layers[tensor.layer - range.start] ??= {})[tensor.kind] = value;
    else global[tensor.kind] = value;
  };
  return {
    norm: keep,
    matrix: keep,
    model: () => ({
      shape,
      range,
      layers: layers.map((layer) => ({ qNorm: null, kNorm: null, ...layer }) as unknown as ExactLayer),
      embedding: (global["embedding"] as RowMatrix | undefined) ?? null,
      outputNorm: (global["outputNorm"] as NormWeights | undefined) ?? null,
      output: (global["output"] as RowMatrix | undefined) ?? null,
    }),
  };
}
