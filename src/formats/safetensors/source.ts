import { bindTensors, modelSource } from "../bound-model.ts";
import type { ByteSource } from "../byte-source.ts";
import type { LayerTensor, ModelSource, TensorRef, UnrotatedShape } from "../model-source.ts";
import { readConfig, shapeOf } from "./config.ts";
import { ropeOf } from "./rope.ts";
import { readShards } from "./shards.ts";

/** The files of a model on Hugging Face. */
export interface SafetensorsFiles {
  /** `config.json` */
  readonly config: ByteSource;
  readonly shards: readonly ByteSource[];
  /** `model.safetensors.index.json` of a model in several shards */
  readonly index?: ByteSource;
  /** Of `chat_template.jinja` or `tokenizer_config.json` */
  readonly chatTemplate?: string;
}

const layerNames: Readonly<Record<LayerTensor, string>> = {
  attnNorm: "input_layernorm.weight",
  q: "self_attn.q_proj.weight",
  k: "self_attn.k_proj.weight",
  v: "self_attn.v_proj.weight",
  qBias: "self_attn.q_proj.bias",
  kBias: "self_attn.k_proj.bias",
  vBias: "self_attn.v_proj.bias",
  qNorm: "self_attn.q_norm.weight",
  kNorm: "self_attn.k_norm.weight",
  attnOutput: "self_attn.o_proj.weight",
  ffnNorm: "post_attention_layernorm.weight",
  gate: "mlp.gate_proj.weight",
  up: "mlp.up_proj.weight",
  down: "mlp.down_proj.weight",
};
const names = {
  embedding: "model.embed_tokens.weight",
  outputNorm: "model.norm.weight",
  output: "lm_head.weight",
};
/** Older checkpoints hold the frequencies, which transformers computes anew. */
const ignored = /\.rotary_emb\.inv_freq$/;

/**
 * A model in safetensors, for the Llama, Mistral, Qwen 2 and Qwen 3 classes of Hugging Face transformers.
 * @throws SkeinError `invalid_model_file`, `unsupported_model`, `cancelled`
 */
export async function openSafetensorsModel(
  { config: configFile, shards, index, chatTemplate }: SafetensorsFiles,
  signal: AbortSignal,
): Promise<ModelSource> {
  // 1. What the model is.
  const { name } = configFile;
  const config = await readConfig(configFile, signal);
  const wanted = shapeOf(name, config);

  // 2. Which tensors there are.
  const tensors = await readShards(shards, index ?? null, signal);

  // 3. From here on, all sizes are those of the files. A matrix of its own counts more than the word "tied", as in
  // transformers since version 5.
  const hasTiedEmbeddings = config.tie_word_embeddings && !tensors.has(names.output);
  const shape: UnrotatedShape = { ...wanted, hasTiedEmbeddings };
  const isIgnored = (other: string): boolean => ignored.test(other);
  const bound = bindTensors({ name, shape, tensors, nameOf, isIgnored, isPaired: false });

  // 4. The rotary frequencies.
  const rope = ropeOf(name, config, shape.headDim);
  return modelSource(bound, { ...shape, ...rope }, chatTemplate ?? null);
}

function nameOf(tensor: TensorRef): string {
  return "layer" in tensor ? `model.layers.${tensor.layer}.${layerNames[tensor.kind]}` : names[tensor.kind];
}
