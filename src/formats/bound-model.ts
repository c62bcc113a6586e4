import type { ByteSource } from "./byte-source.ts";
import { bytesOfRow, elementTypes, type ElementType, isElementType } from "./elements.ts";
import { invalidModelFile, shown, shownList, unsupportedModel } from "./errors.ts";
import {
  type DecoderShape,
  extentOf,
  type LayerTensor,
  type ModelSource,
  type TensorRef,
  type UnrotatedShape,
} from "./model-source.ts";
import { readStoredRows, type StoredTensor } from "./stored-tensor.ts";

/** A tensor as the file's header describes it. */
export interface FoundTensor {
  readonly name: string;
  /** "F16", "Q4_K", … */
  readonly typeName: string;
  /** Row-major: rows, then columns; vectors have one. Without leading ones. */
  readonly extent: readonly number[];
  readonly source: ByteSource;
  readonly start: number;
}

export interface ModelToBind {
  /** For messages. */
  readonly name: string;
  readonly shape: UnrotatedShape;
  readonly tensors: ReadonlyMap<string, FoundTensor>;
  /** The file's name of a tensor. */
  readonly nameOf: (tensor: TensorRef) => string;
  /** Tensors that no computation needs. */
  readonly isIgnored: (name: string) => boolean;
  /** Rotary pairs lie side by side in the file. */
  readonly isPaired: boolean;
}

const pairedKinds: readonly string[] = ["q", "k", "qBias", "kBias"];

/** Every tensor by what it is; the sizes of the shape are those of the files. */
export type BoundTensors = ReadonlyMap<string, StoredTensor>;

/**
 * Finds every tensor that the shape asks for, and nothing else, in the files.
 * @throws SkeinError `invalid_model_file`, `unsupported_model`
 */
export function bindTensors(model: ModelToBind): BoundTensors {
  const { shape, name } = model;
  // One by one: of absurdly many layers the first missing one ends it.
  const bound = new Map<string, StoredTensor>();
  for (const ref of tensorRefs(shape)) bound.set(keyOf(ref), bindTensor(model, ref));
  const names = new Set([...bound.values()].map((tensor) => tensor.name));
  const others = [...model.tensors.keys()].filter((other) => !names.has(other) && !model.isIgnored(other));
  if (others.length > 0) {
    throw unsupportedModel(
      name,
      `has tensors that a ${shape.architecture} model of its kind does not have: ${shownList(others)}`,
      "They would change its answers. Use the original model, without adapters or extensions.",
    );
  }
  return bound;
}

export function modelSource(
  bound: BoundTensors,
  shape: DecoderShape,
  chatTemplate: string | null,
): ModelSource {
  const tensors = new Map(bound);
  if (shape.hasTiedEmbeddings) tensors.set("output", tensors.get("embedding")!);
  return {
    shape,
    chatTemplate,
    weightType: mostCommonType([...bound.values()]),
    parameters: [...bound.values()].reduce(
      (sum, { rows, columns }) => sum + BigInt(rows) * BigInt(columns),
      0n,
    ),
    readRows: async (ref, start, count, signal) => {
      const tensor = tensors.get(keyOf(ref));
      if (tensor === undefined) throw new RangeError(`the model has no tensor ${keyOf(ref)}`);
      return readStoredRows(tensor, start, count, signal);
    },
  };
}

function keyOf(ref: TensorRef): string {
  return "layer" in ref ? `${ref.layer}.${ref.kind}` : ref.kind;
}

/** All tensors of such a decoder; a tied output is the embedding. */
function* tensorRefs(shape: UnrotatedShape): Generator<TensorRef> {
  const kinds: LayerTensor[] = ["attnNorm", "q", "k", "v", "attnOutput", "ffnNorm", "gate", "up", "down"];
  if (shape.hasQkvBias) kinds.push("qBias", "kBias", "vBias");
  if (shape.hasQkNorm) kinds.push("qNorm", "kNorm");
  yield { kind: "embedding" };
  yield { kind: "outputNorm" };
  if (!shape.hasTiedEmbeddings) yield { kind: "output" };
  for (let layer = 0; layer < shape.layers; layer++) for (const kind of kinds) yield { kind, layer };
}

function bindTensor({ name, shape, tensors, nameOf, isPaired }: ModelToBind, ref: TensorRef): StoredTensor {
  const wanted = nameOf(ref);
  const found = tensors.get(wanted);
  if (found === undefined) throw invalidModelFile(name, `lacks the tensor ${shown(wanted)}`);
  const { rows, columns } = extentOf(shape, ref.kind);
  if (!isSameExtent(found.extent, rows, columns)) {
    const has = found.extent.join(" × ");
    throw invalidModelFile(
      name,
      `has a tensor ${shown(wanted)} of ${has} where its hyperparameters ask for ${rows} × ${columns}`,
    );
  }
  const type = elementTypeOf(name, found);
  const pairedHeadDim = isPaired && pairedKinds.includes(ref.kind) ? shape.headDim : null;
  return { name: wanted, source: found.source, start: found.start, type, rows, columns, pairedHeadDim };
}

function isSameExtent(extent: readonly number[], rows: number, columns: number): boolean {
  if (extent.length === 1) return rows === 1 && extent[0] === columns;
  return extent.length === 2 && extent[0] === rows && extent[1] === columns;
}

/** @throws SkeinError `unsupported_model` */
export function elementTypeOf(name: string, { name: tensor, typeName }: FoundTensor): ElementType {
  if (isElementType(typeName)) return typeName;
  throw unsupportedModel(
    name,
    `stores the tensor ${shown(tensor)} as ${typeName}; the exact engine reads ${elementTypes.join(", ")}`,
    "Use the model's file in F16, Q8_0, Q6_K or Q4_K_M.",
  );
}

function mostCommonType(tensors: readonly StoredTensor[]): string {
  const bytes = new Map<string, number>();
  for (const { type, rows, columns } of tensors) {
    bytes.set(type, (bytes.get(type) ?? 0) + rows * bytesOfRow(type, columns));
  }
  return [...bytes].reduce((most, next) => (next[1] > most[1] ? next : most))[0];
}
