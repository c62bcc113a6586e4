import { invalidModelFile, shown, unsupportedModel } from "../errors.ts";
import type { DecoderArchitecture, UnrotatedShape } from "../model-source.ts";
import type { GgufKeys } from "./keys.ts";
import type { GgufScalar } from "./parse.ts";

/** llama.cpp has no name of its own for Mistral's models: their files say `llama`. */
const architectures: readonly string[] = ["llama", "qwen2", "qwen3"] satisfies DecoderArchitecture[];

/**
 * Keys that change the computation, with the values that mean what every model here does. llama.cpp reads some of
 * them for other architectures only; a file that has them anyway was not meant to run without.
 */
const neutralValues: Readonly<Record<string, readonly GgufScalar[]>> = {
  expert_count: [0],
  leading_dense_block_count: [0],
  nextn_predict_layers: [0],
  attn_logit_softcapping: [0],
  final_logit_softcapping: [0],
  logit_scale: [0, 1],
  embedding_scale: [0, 1],
  residual_scale: [0, 1],
  use_parallel_residual: [false],
  "attention.causal": [true],
  "attention.scale": [0],
  "attention.output_scale": [0, 1],
  "attention.clamp_kqv": [0],
  "attention.max_alibi_bias": [0],
  "attention.temperature_length": [0],
  "attention.temperature_scale": [0],
  "rope.scaling.yarn_ext_factor": [-1, 1],
  "rope.scaling.yarn_attn_factor": [1],
  "rope.scaling.yarn_beta_fast": [32],
  "rope.scaling.yarn_beta_slow": [1],
  "rope.scaling.yarn_log_multiplier": [0],
};
/** Keys that no model here can have. */
const foreignKeys = ["rope.dimension_sections", "rope.freq_base_swa", "attention.sliding_window_pattern"];

/** A shape but for what the tensors tell. */
export type Hyperparameters = Omit<
  UnrotatedShape,
  "vocabularySize" | "hasTiedEmbeddings" | "hasQkvBias" | "hasQkNorm"
>;

/** @throws SkeinError `unsupported_model` */
export function architectureOf(name: string, architecture: GgufScalar | undefined): DecoderArchitecture {
  if (typeof architecture === "string" && architectures.includes(architecture)) {
    return architecture as DecoderArchitecture;
  }
  throw unsupportedModel(
    name,
    `has the architecture ${shown(String(architecture ?? ""))}`,
    `The exact engine computes ${architectures.join(", ")} (also Mistral, TinyLlama, SmolLM).`,
  );
}

/** Defaults are llama.cpp's (`llama_model::load_hparams`). @throws SkeinError */
export function readHyperparameters(
  name: string,
  architecture: DecoderArchitecture,
  keys: GgufKeys,
): Hyperparameters {
  refuseExtensions(name, keys);
  const dim = keys.positive("embedding_length");
  const heads = keys.positive("attention.head_count");
  const headsKv = keys.positive("attention.head_count_kv", heads);
  if (heads % headsKv !== 0) {
    throw invalidModelFile(name, `has ${heads} query heads for ${headsKv} heads of keys and values`);
  }
  const contextTokens = keys.positive("context_length");
  // Within its window, a model with a sliding window is one without.
  const window = keys.natural("attention.sliding_window", 0);
  return {
    architecture,
    layers: keys.positive("block_count"),
    dim,
    heads,
    headsKv,
    headDim: headDimOf(name, keys, dim, heads),
    ffnDim: keys.positive("feed_forward_length"),
    contextTokensMax: window === 0 ? contextTokens : Math.min(contextTokens, window),
    rmsEpsilon: epsilonOf(name, keys),
  };
}

function refuseExtensions(name: string, keys: GgufKeys): void {
  const hint = "The exact engine computes plain decoders only. Use another model.";
  if (keys.natural("expert_count", 0) > 0) throw unsupportedModel(name, "is a mixture of experts", hint);
  for (const key of foreignKeys) if (keys.has(key)) throw unsupportedModel(name, `has the key ${key}`, hint);
  for (const [key, values] of Object.entries(neutralValues)) {
    const value = keys.scalar(key);
    const plain = typeof value === "bigint" ? Number(value) : value;
    if (plain === undefined || values.includes(plain)) continue;
    throw unsupportedModel(name, `has ${shown(String(plain))} under the key ${key}`, hint);
  }
}

function headDimOf(name: string, keys: GgufKeys, dim: number, heads: number): number {
  const isStated = keys.has("attention.key_length") && keys.has("attention.value_length");
  if (!isStated && dim % heads !== 0) throw invalidModelFile(name, `has ${heads} heads in ${dim} channels`);
  const headDim = keys.positive("attention.key_length", dim / heads);
  const valueLength = keys.positive("attention.value_length", dim / heads);
  const rotated = keys.positive("rope.dimension_count", headDim);
  const reasons: readonly (readonly [boolean, string])[] = [
    [headDim % 2 === 1, `has heads of the odd length ${headDim}`],
    [valueLength !== headDim, `has heads of ${headDim} channels for keys and ${valueLength} for values`],
    [rotated !== headDim, `rotates only ${rotated} of the ${headDim} channels of a head`],
  ];
  const [, why] = reasons.find(([applies]) => applies) ?? [];
  if (why === undefined) return headDim;
  throw unsupportedModel(name, why, "The exact engine computes whole, even heads of one length only.");
}

function epsilonOf(name: string, keys: GgufKeys): number {
  const key = "attention.layer_norm_rms_epsilon";
  const epsilon = keys.real(key);
  if (epsilon > 0 && epsilon < 1) return epsilon;
  throw invalidModelFile(name, `has ${epsilon} under the key ${key}`);
}
