import { bindTensors, elementTypeOf, type FoundTensor, modelSource } from "../bound-model.ts";
import type { ByteSource } from "../byte-source.ts";
import { invalidModelFile } from "../errors.ts";
import type { LayerTensor, ModelSource, TensorRef, UnrotatedShape } from "../model-source.ts";
import { readStoredRows } from "../stored-tensor.ts";
import { type GgufPart, type GgufTensor, joinGgufTensors, readGgufPart } from "./header.ts";
import { architectureOf, readHyperparameters } from "./hyperparameters.ts";
import { GgufKeys } from "./keys.ts";
import { arrayLengthOf, scalarOf } from "./parse.ts";
import { readRope } from "./rope.ts";
import { tensorTypeName } from "./tensor-types.ts";

const layerNames: Readonly<Record<LayerTensor, string>> = {
  attnNorm: "attn_norm.weight",
  q: "attn_q.weight",
  k: "attn_k.weight",
  v: "attn_v.weight",
  qBias: "attn_q.bias",
  kBias: "attn_k.bias",
  vBias: "attn_v.bias",
  qNorm: "attn_q_norm.weight",
  kNorm: "attn_k_norm.weight",
  attnOutput: "attn_output.weight",
  ffnNorm: "ffn_norm.weight",
  gate: "ffn_gate.weight",
  up: "ffn_up.weight",
  down: "ffn_down.weight",
};
const names = { embedding: "token_embd.weight", outputNorm: "output_norm.weight", output: "output.weight" };
const ropeFactorsName = "rope_freqs.weight";

/**
 * A model in GGUF, for llama.cpp's architectures `llama` (with Mistral), `qwen2` and `qwen3`.
 *
 * @param sources the files of the model; of a split one all parts, the first one first
 * @throws SkeinError `invalid_model_file`, `unsupported_model`, `cancelled`
 */
export async function openGgufModel(
  sources: readonly ByteSource[],
  signal: AbortSignal,
): Promise<ModelSource> {
  // 1. The headers, one by one: each may take memory.
  const parts: GgufPart[] = [];
  for (const source of sources) parts.push(await readGgufPart(source, signal));
  const first = checkParts(parts);
  const name = first.source.name;

  // 2. The tensors, which nobody may lay over each other.
  const tensors = joinGgufTensors(parts);
  for (const part of parts) refuseOverlaps(part);
  const found = new Map(tensors.map((tensor) => [tensor.name, foundOf(tensor)]));

  // 3. The hyperparameters.
  const architecture = architectureOf(name, scalarOf(first.metadata.get("general.architecture")));
  const keys = new GgufKeys(name, architecture, first.metadata);
  const parameters = readHyperparameters(name, architecture, keys);

  // 4. What the tensors tell. From here on, all sizes are those of the files.
  const shape: UnrotatedShape = {
    ...parameters,
    vocabularySize: vocabularySizeOf(first, found),
    hasTiedEmbeddings: !found.has(names.output),
    hasQkvBias: architecture === "qwen2" || found.has(nameOf({ kind: "qBias", layer: 0 })),
    hasQkNorm: architecture === "qwen3",
  };
  const isPaired = architecture === "llama";
  const isIgnored = (other: string): boolean => other === ropeFactorsName && architecture === "llama";
  const bound = bindTensors({ name, shape, tensors: found, nameOf, isIgnored, isPaired });

  // 5. The rotary frequencies.
  const factors = await readRopeFactors(name, shape, found.get(ropeFactorsName), signal);
  const rope = readRope(name, keys, shape.headDim, factors);
  return modelSource(bound, { ...shape, ...rope }, chatTemplateOf(first));
}

function nameOf(tensor: TensorRef): string {
  return "layer" in tensor ? `blk.${tensor.layer}.${layerNames[tensor.kind]}` : names[tensor.kind];
}

/** The first part, which holds the metadata of all. */
function checkParts(parts: readonly GgufPart[]): GgufPart {
  const [first] = parts;
  if (first === undefined) throw invalidModelFile("The model", "has no files");
  const count = Number(scalarOf(first.metadata.get("split.count")) ?? 1);
  if (Math.max(1, count) !== parts.length) {
    throw invalidModelFile(first.source.name, `is a part of a model in ${count} files, not ${parts.length}`);
  }
  for (const [i, { source, metadata }] of parts.entries()) {
    const number = Number(scalarOf(metadata.get("split.no")) ?? 0);
    if (number !== i) throw invalidModelFile(source.name, `is part ${number + 1} of its model, not ${i + 1}`);
  }
  return first;
}

function refuseOverlaps({ source, tensors }: GgufPart): void {
  let end = 0;
  for (const tensor of tensors) {
    if (tensor.start < end) throw invalidModelFile(source.name, "has tensors that overlap");
    end = tensor.start + tensor.bytes;
  }
}

/** GGUF counts dimensions from the innermost, and may have more of length one. */
function foundOf({ name, shape, type, source, start }: GgufTensor): FoundTensor {
  const length = shape.findLastIndex((size) => size !== 1) + 1;
  const extent = shape.slice(0, Math.max(1, length)).toReversed();
  return { name, typeName: tensorTypeName(type), extent, source, start };
}

function vocabularySizeOf({ source, metadata }: GgufPart, tensors: ReadonlyMap<string, FoundTensor>): number {
  const embedding = tensors.get(names.embedding);
  const rows = embedding?.extent.length === 2 ? embedding.extent[0]! : 0;
  if (rows === 0) throw invalidModelFile(source.name, `lacks the matrix ${names.embedding}`);
  const tokens = arrayLengthOf(metadata.get("tokenizer.ggml.tokens"));
  if (tokens !== null && tokens !== rows) {
    throw invalidModelFile(source.name, `has ${tokens} tokens, but embeddings of ${rows}`);
  }
  return rows;
}

async function readRopeFactors(
  name: string,
  { architecture, headDim }: UnrotatedShape,
  tensor: FoundTensor | undefined,
  signal: AbortSignal,
): Promise<Float32Array | null> {
  if (tensor === undefined || architecture !== "llama") return null;
  const columns = headDim / 2;
  if (tensor.extent.length !== 1 || tensor.extent[0] !== columns) {
    throw invalidModelFile(name, `has ${tensor.extent.join(" × ")} rotary factors instead of ${columns}`);
  }
  const { source, start } = tensor;
  const type = elementTypeOf(name, tensor);
  const stored = { name: tensor.name, source, start, type, rows: 1, columns, pairedHeadDim: null };
  return readStoredRows(stored, 0, 1, signal);
}

function chatTemplateOf({ metadata }: GgufPart): string | null {
  const template = scalarOf(metadata.get("tokenizer.chat_template"));
  return typeof template === "string" && template !== "" ? template : null;
}
