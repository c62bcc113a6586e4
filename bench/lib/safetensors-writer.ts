/** Writes a random model as Hugging Face does: `config.json` and one `model.safetensors`. */
import { type FileHandle, mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type DecoderShape, extentOf, type ModelSource } from "../../src/formats/model-source.ts";
import type { RopeSettings } from "./rope.ts";
import { huggingFaceName, isVector, tensorsOf } from "./tensors.ts";
import { encodeWeights, storedBytes, type WeightType } from "./weight-types.ts";

export type SafetensorsType = Exclude<WeightType, "Q8_0" | "Q4_0">;

const chunkElements = 1 << 18;

export async function writeSafetensors(
  folder: string,
  source: ModelSource,
  type: SafetensorsType,
  rope: RopeSettings,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, "config.json"),
    `${JSON.stringify(configOf(source.shape, type, rope), null, 2)}\n`,
  );
  const file = await open(join(folder, "model.safetensors"), "w");
  try {
    await writeTensors(file, source, type);
  } finally {
    await file.close();
  }
}

async function writeTensors(file: FileHandle, source: ModelSource, type: SafetensorsType): Promise<void> {
  const tensors = tensorsOf(source.shape).map((tensor) => ({
    tensor,
    ...extentOf(source.shape, tensor.kind),
  }));
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  for (const { tensor, rows, columns } of tensors) {
    const end = offset + storedBytes(type, rows * columns);
    header[huggingFaceName(tensor)] = {
      dtype: type,
      shape: isVector(tensor.kind) ? [columns] : [rows, columns],
      data_offsets: [offset, end],
    };
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Math.ceil(json.length / 8) * 8));
  await file.write(Buffer.concat([length, json, Buffer.alloc(-json.length & 7, " ")]));
  const signal = new AbortController().signal;
  for (const { tensor, rows, columns } of tensors) {
    const step = Math.max(1, Math.floor(chunkElements / columns));
    for (let row = 0; row < rows; row += step) {
      const values = await source.readRows(tensor, row, Math.min(step, rows - row), signal);
      await file.write(encodeWeights(type, values));
    }
  }
}

const architectureNames = {
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
} as const;
const dtypeNames = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const;

function configOf(shape: DecoderShape, type: SafetensorsType, rope: RopeSettings): Record<string, unknown> {
  return {
    architectures: [architectureNames[shape.architecture]],
    model_type: shape.architecture,
    hidden_act: "silu",
    hidden_size: shape.dim,
    intermediate_size: shape.ffnDim,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.headsKv,
    head_dim: shape.headDim,
    max_position_embeddings: shape.contextTokensMax,
    // The shortest decimals that are the same single-precision number.
    rms_norm_eps: Number(shape.rmsEpsilon.toPrecision(7)),
    rope_theta: rope.base,
    rope_scaling: scalingOf(rope),
    vocab_size: shape.vocabularySize,
    tie_word_embeddings: shape.hasTiedEmbeddings,
    ...(shape.architecture === "llama" ? { attention_bias: false, mlp_bias: false } : {}),
    ...(shape.architecture === "mistral" ? { sliding_window: null } : {}),
    ...(shape.architecture === "qwen3" ? { attention_bias: false } : {}),
    ...(shape.architecture.startsWith("qwen") ? { use_sliding_window: false } : {}),
    torch_dtype: dtypeNames[type],
  };
}

function scalingOf({ scaling }: RopeSettings): Record<string, unknown> | null {
  switch (scaling.kind) {
    case "none":
      return null;
    case "linear":
      return { rope_type: "linear", factor: scaling.factor };
    case "llama3":
      return {
        rope_type: "llama3",
        factor: scaling.factor,
        low_freq_factor: scaling.lowFrequencyFactor,
        high_freq_factor: scaling.highFrequencyFactor,
        original_max_position_embeddings: scaling.originalContextTokens,
      };
    case "yarn":
      return {
        rope_type: "yarn",
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalContextTokens,
      };
  }
}
