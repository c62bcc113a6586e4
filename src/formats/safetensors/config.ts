import { z } from "zod";
import type { ByteSource } from "../byte-source.ts";
import { invalidModelFile, shown, unsupportedModel } from "../errors.ts";
import type { DecoderArchitecture, UnrotatedShape } from "../model-source.ts";
import { readJson } from "./read-json.ts";

const configBytesMax = 1 << 20;
const configLimits = { depthMax: 16, valuesMax: 50_000 };

const size = z.int().positive();
const positive = z.number().positive();
/** Parameters of all kinds of scaling that are computed; which ones are needed depends on the kind. */
const ropeSchema = z.looseObject({
  rope_type: z.string().optional(),
  /** The older name. */
  type: z.string().optional(),
  rope_theta: positive.optional(),
  factor: positive.nullish(),
  low_freq_factor: positive.optional(),
  high_freq_factor: positive.optional(),
  original_max_position_embeddings: size.optional(),
  attention_factor: positive.nullish(),
  beta_fast: positive.nullish(),
  beta_slow: positive.nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().optional(),
  partial_rotary_factor: positive.optional(),
});
const configSchema = z.looseObject({
  architectures: z.array(z.string()).length(1),
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  vocab_size: size,
  max_position_embeddings: size,
  rms_norm_eps: positive.max(1),
  hidden_act: z.string().default("silu"),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  sliding_window: size.nullish(),
  use_sliding_window: z.boolean().default(false),
  partial_rotary_factor: positive.default(1),
  rope_theta: positive.optional(),
  /** Stands above the one in `rope_scaling`. */
  original_max_position_embeddings: size.nullish(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  quantization_config: z.unknown().optional(),
});

export type RopeConfig = z.infer<typeof ropeSchema>;
export type ModelConfig = z.infer<typeof configSchema>;

interface Family {
  readonly architecture: DecoderArchitecture;
  /** What the classes of transformers take when a config does not say it; null: derived from other fields. */
  readonly headsKv: number | null;
  readonly headDim: number | null;
  readonly hasQkvBias: boolean | "as configured";
}

const families: Readonly<Record<string, Family>> = {
  LlamaForCausalLM: { architecture: "llama", headsKv: null, headDim: null, hasQkvBias: "as configured" },
  MistralForCausalLM: { architecture: "mistral", headsKv: 8, headDim: null, hasQkvBias: false },
  Qwen2ForCausalLM: { architecture: "qwen2", headsKv: 32, headDim: null, hasQkvBias: true },
  Qwen3ForCausalLM: { architecture: "qwen3", headsKv: 32, headDim: 128, hasQkvBias: "as configured" },
};
/** Of Mistral's and Qwen's classes, when a config does not name it. */
const slidingWindowDefault = 4096;

/** `config.json` of Hugging Face transformers. @throws SkeinError */
export async function readConfig(source: ByteSource, signal: AbortSignal): Promise<ModelConfig> {
  if (source.size > configBytesMax) throw invalidModelFile(source.name, `has ${source.size} bytes`);
  const json = await readJson(source, 0, source.size, configLimits, signal);
  refuseForeign(source.name, json);
  const parsed = configSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw invalidModelFile(source.name, `has a wrong value for ${shown(path.join("."))} (${message})`);
}

/** Before all fields: other architectures have others. */
function refuseForeign(name: string, json: unknown): void {
  const parsed = z.looseObject({ architectures: z.array(z.string()) }).safeParse(json);
  const architectures = parsed.success ? parsed.data.architectures : [];
  if (architectures.length === 1 && Object.hasOwn(families, architectures[0]!)) return;
  throw unsupportedModel(
    name,
    `has the architecture ${shown(architectures.join(", "))}`,
    `The exact engine computes ${Object.keys(families).join(", ")}.`,
  );
}

/** A shape but for `lm_head`, which only the files tell. @throws SkeinError */
export function shapeOf(name: string, config: ModelConfig): Omit<UnrotatedShape, "hasTiedEmbeddings"> {
  refuseExtensions(name, config);
  const family = families[config.architectures[0]!]!;
  const { hidden_size: dim, num_attention_heads: heads } = config;
  const headsKv = orDefault(config.num_key_value_heads, family.headsKv, heads);
  if (heads % headsKv !== 0) {
    throw invalidModelFile(name, `has ${heads} query heads for ${headsKv} heads of keys and values`);
  }
  const headDim = orDefault(config.head_dim, family.headDim, dim / heads);
  if (!Number.isInteger(headDim)) throw invalidModelFile(name, `has ${heads} heads in ${dim} channels`);
  if (headDim % 2 === 1) {
    throw unsupportedModel(name, `has heads of the odd length ${headDim}`, "Use another model.");
  }
  return {
    architecture: family.architecture,
    layers: config.num_hidden_layers,
    dim,
    heads,
    headsKv,
    headDim,
    ffnDim: config.intermediate_size,
    vocabularySize: config.vocab_size,
    contextTokensMax: Math.min(config.max_position_embeddings, windowOf(family.architecture, config)),
    // torch adds it to 32-bit floats, and GGUF stores it as one.
    rmsEpsilon: Math.fround(config.rms_norm_eps),
    hasQkvBias: family.hasQkvBias === "as configured" ? config.attention_bias : family.hasQkvBias,
    hasQkNorm: family.architecture === "qwen3",
  };
}

/** Null and nothing differ: null is a value, for which the classes derive theirs from other fields. */
function orDefault(value: number | null | undefined, fallback: number | null, derived: number): number {
  return (value === undefined ? fallback : value) ?? derived;
}

/** Within its window, a model with a sliding window is one without. */
function windowOf(architecture: DecoderArchitecture, config: ModelConfig): number {
  const isUsed = architecture === "mistral" || (architecture !== "llama" && config.use_sliding_window);
  return isUsed ? orDefault(config.sliding_window, slidingWindowDefault, Infinity) : Infinity;
}

function refuseExtensions(name: string, config: ModelConfig): void {
  const { hidden_act: activation, quantization_config: quantization } = config;
  const rope = config.rope_parameters ?? config.rope_scaling ?? {};
  const rotatedPart = rope.partial_rotary_factor ?? config.partial_rotary_factor;
  const isNested = Object.values(rope).some((value) => typeof value === "object" && value !== null);
  const reasons: readonly (readonly [boolean, string])[] = [
    [activation !== "silu" && activation !== "swish", `has the activation ${shown(activation)}`],
    [config.mlp_bias, "has biases in its feed-forward layers"],
    [rotatedPart !== 1, `rotates only a part (${rotatedPart}) of each head`],
    [isNested, "has rotary positions that differ between layers or channels"],
    [quantization !== undefined && quantization !== null, "has quantised weights"],
  ];
  const [, why] = reasons.find(([applies]) => applies) ?? [];
  if (why === undefined) return;
  const hint =
    "The exact engine computes plain decoders with F16, BF16 or F32 weights. Use another model or file.";
  throw unsupportedModel(name, why, hint);
}
