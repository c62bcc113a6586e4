/** Every tensor of a decoder, with its names in both kinds of files. */
import type { DecoderShape, LayerTensor, TensorRef } from "../../src/formats/model-source.ts";
import type { WeightType } from "./weight-types.ts";

type GlobalTensor = Exclude<TensorRef["kind"], LayerTensor>;

interface TensorNames {
  readonly gguf: string;
  readonly huggingFace: string;
}

const globalNames: Readonly<Record<GlobalTensor, TensorNames>> = {
  embedding: { gguf: "token_embd.weight", huggingFace: "model.embed_tokens.weight" },
  outputNorm: { gguf: "output_norm.weight", huggingFace: "model.norm.weight" },
  output: { gguf: "output.weight", huggingFace: "lm_head.weight" },
};

const layerNames: Readonly<Record<LayerTensor, TensorNames>> = {
  attnNorm: { gguf: "attn_norm.weight", huggingFace: "input_layernorm.weight" },
  q: { gguf: "attn_q.weight", huggingFace: "self_attn.q_proj.weight" },
  k: { gguf: "attn_k.weight", huggingFace: "self_attn.k_proj.weight" },
  v: { gguf: "attn_v.weight", huggingFace: "self_attn.v_proj.weight" },
  qBias: { gguf: "attn_q.bias", huggingFace: "self_attn.q_proj.bias" },
  kBias: { gguf: "attn_k.bias", huggingFace: "self_attn.k_proj.bias" },
  vBias: { gguf: "attn_v.bias", huggingFace: "self_attn.v_proj.bias" },
  qNorm: { gguf: "attn_q_norm.weight", huggingFace: "self_attn.q_norm.weight" },
  kNorm: { gguf: "attn_k_norm.weight", huggingFace: "self_attn.k_norm.weight" },
  attnOutput: { gguf: "attn_output.weight", huggingFace: "self_attn.o_proj.weight" },
  ffnNorm: { gguf: "ffn_norm.weight", huggingFace: "post_attention_layernorm.weight" },
  gate: { gguf: "ffn_gate.weight", huggingFace: "mlp.gate_proj.weight" },
  up: { gguf: "ffn_up.weight", huggingFace: "mlp.up_proj.weight" },
  down: { gguf: "ffn_down.weight", huggingFace: "mlp.down_proj.weight" },
};

const vectors: ReadonlySet<TensorRef["kind"]> = new Set([
  "outputNorm",
  "attnNorm",
  "ffnNorm",
  "qBias",
  "kBias",
  "vBias",
  "qNorm",
  "kNorm",
] as const);

export function isVector(kind: TensorRef["kind"]): boolean {
  return vectors.has(kind);
}

export function tensorsOf(shape: DecoderShape): TensorRef[] {
  const kinds = (Object.keys(layerNames) as LayerTensor[]).filter(
    (kind) =>
      (shape.hasQkvBias || !kind.endsWith("Bias")) &&
      (shape.hasQkNorm || (kind !== "qNorm" && kind !== "kNorm")),
  );
  const layers = Array.from({ length: shape.layers }, (_, layer) => kinds.map((kind) => ({ kind, layer })));
  const output: TensorRef[] = shape.hasTiedEmbeddings ? [] : [{ kind: "output" }];
  return [{ kind: "embedding" }, ...layers.flat(), { kind: "outputNorm" }, ...output];
}

export function ggufName(tensor: TensorRef): string {
  return "layer" in tensor
    ? `blk.${tensor.layer}.${layerNames[tensor.kind].gguf}`
    : globalNames[tensor.kind].gguf;
}

export function huggingFaceName(tensor: TensorRef): string {
  return "layer" in tensor
    ? `model.layers.${tensor.layer}.${layerNames[tensor.kind].huggingFace}`
    : globalNames[tensor.kind].huggingFace;
}

/** What a tensor is stored as in a file of `type`: llama.cpp, too, gives embedding and output more bits than four. */
export function storedType(kind: TensorRef["kind"], type: WeightType): WeightType {
  if (isVector(kind)) return "F32";
  return type === "Q4_0" && (kind === "embedding" || kind === "output") ? "Q8_0" : type;
}
