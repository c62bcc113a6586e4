/** What the tests of model files share: small models with the same weights as GGUF and as safetensors. */
import { type ErrorCode, SkeinError } from "../util/errors.ts";
import { type Random, seededRandom } from "../util/random.ts";
import { type ByteSource, memorySource } from "./byte-source.ts";
import { arrayValue, f32Value, stringValue, u32Value, writeGguf } from "./gguf/fixture.suite.ts";
import type { GgufValue } from "./gguf/parse.ts";
import { tensorTypeName } from "./gguf/tensor-types.ts";
import { extentOf, type LayerTensor, type ModelSource, type TensorRef } from "./model-source.ts";
import type { SafetensorsFiles } from "./safetensors/source.ts";
import type { ElementType } from "./elements.ts";
import type { PackedType } from "./packed-elements.ts";

/** What fixtures are written as. */
type WrittenType = Exclude<ElementType, PackedType>;

export interface FixtureModel {
  readonly architecture: "llama" | "mistral" | "qwen2" | "qwen3";
  readonly layers: number;
  readonly dim: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly headDim: number;
  readonly ffnDim: number;
  readonly vocabularySize: number;
  readonly isTied: boolean;
  /** Of matrices; vectors are F32. */
  readonly type: WrittenType;
}

export const smallLlama: FixtureModel = {
  architecture: "llama",
  layers: 2,
  dim: 32,
  heads: 4,
  headsKv: 2,
  headDim: 8,
  ffnDim: 64,
  vocabularySize: 10,
  isTied: true,
  type: "F16",
};

/** Of one tensor: names in both kinds of files, and values as Hugging Face orders them. */
export interface FixtureTensor {
  readonly gguf: string;
  readonly huggingFace: string;
  readonly rows: number;
  /** Null for vectors. */
  readonly columns: number | null;
  readonly values: Float32Array;
  /** Number of heads whose channels GGUF reorders for `llama`. */
  readonly rotatedHeads: number | null;
}

/** Multiples of 1/64 below 2: the same in every type. */
function randomValues(count: number, random: Random): Float32Array {
  return Float32Array.from({ length: count }, () => (Math.floor(random.next() * 255) - 127) / 64);
}

export function fixtureTensors(model: FixtureModel, seed = 1): FixtureTensor[] {
  const random = seededRandom(seed);
  const { dim, ffnDim, heads, headsKv, headDim, vocabularySize, architecture } = model;
  const tensors: FixtureTensor[] = [];
  const add = (
    gguf: string,
    huggingFace: string,
    rows: number,
    columns: number | null,
    rotatedHeads: number | null = null,
  ): void => {
    const values = randomValues(rows * (columns ?? 1), random);
    tensors.push({ gguf, huggingFace, rows, columns, values, rotatedHeads });
  };
  add("token_embd.weight", "model.embed_tokens.weight", vocabularySize, dim);
  add("output_norm.weight", "model.norm.weight", dim, null);
  if (!model.isTied) add("output.weight", "lm_head.weight", vocabularySize, dim);
  for (let i = 0; i < model.layers; i++) {
    const [ours, theirs] = [`blk.${i}.`, `model.layers.${i}.`];
    add(`${ours}attn_norm.weight`, `${theirs}input_layernorm.weight`, dim, null);
    const projections = [
      ["q", heads, heads],
      ["k", headsKv, headsKv],
      ["v", headsKv, null],
    ] as const;
    for (const [name, count, rotated] of projections) {
      const [our, their] = [`${ours}attn_${name}`, `${theirs}self_attn.${name}_proj`];
      add(`${our}.weight`, `${their}.weight`, count * headDim, dim, rotated);
      if (architecture === "qwen2") add(`${our}.bias`, `${their}.bias`, count * headDim, null, rotated);
      if (architecture === "qwen3" && name !== "v") {
        add(`${our}_norm.weight`, `${theirs}self_attn.${name}_norm.weight`, headDim, null);
      }
    }
    add(`${ours}attn_output.weight`, `${theirs}self_attn.o_proj.weight`, dim, heads * headDim);
    add(`${ours}ffn_norm.weight`, `${theirs}post_attention_layernorm.weight`, dim, null);
    add(`${ours}ffn_gate.weight`, `${theirs}mlp.gate_proj.weight`, ffnDim, dim);
    add(`${ours}ffn_up.weight`, `${theirs}mlp.up_proj.weight`, ffnDim, dim);
    add(`${ours}ffn_down.weight`, `${theirs}mlp.down_proj.weight`, dim, ffnDim);
  }
  return tensors;
}

/** Of fixture values, whose Q8_0 blocks all have the scale 1/64. */
export function encodeElements(type: WrittenType, values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(
    type === "Q8_0" ? (values.length / 32) * 34 : values.length * (type === "F32" ? 4 : 2),
  );
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) {
    if (type === "F32") view.setFloat32(4 * i, value, true);
    else if (type === "F16") view.setUint16(2 * i, halfBits(value), true);
    else if (type === "BF16") view.setUint16(2 * i, floatBits(value) >>> 16, true);
    else {
      const block = Math.floor(i / 32) * 34;
      view.setUint16(block, halfBits(1 / 64), true);
      view.setInt8(block + 2 + (i % 32), value * 64);
    }
  }
  return bytes;
}

function floatBits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0]!;
}

/** Of numbers that are normal and exact in half precision, and zero. */
function halfBits(value: number): number {
  if (value === 0) return 0;
  const bits = floatBits(value);
  return ((bits >>> 16) & 0x8000) | ((((bits >>> 23) & 255) - 112) << 10) | ((bits >>> 13) & 1023);
}

/** Rows (head, half, i) become (head, i, half), as convert_hf_to_gguf.py of llama.cpp does it. */
function paired({ values, rows, columns, rotatedHeads }: FixtureTensor): Float32Array {
  if (rotatedHeads === null) return values;
  const width = columns ?? 1;
  const half = rows / rotatedHeads / 2;
  const result = new Float32Array(values.length);
  let to = 0;
  for (let head = 0; head < rotatedHeads; head++) {
    for (let i = 0; i < half; i++) {
      for (const side of [0, 1]) {
        const from = (head * 2 * half + side * half + i) * width;
        result.set(values.subarray(from, from + width), to);
        to += width;
      }
    }
  }
  return result;
}

export type Metadata = Readonly<Record<string, GgufValue | null>>;

/** `keys` replace those of the model, without its architecture's prefix; null leaves one out. */
export function ggufOf(model: FixtureModel, keys: Metadata = {}, tensors = fixtureTensors(model)): Buffer {
  const architecture = model.architecture === "mistral" ? "llama" : model.architecture;
  const tokens = Array.from({ length: model.vocabularySize }, (_, i) => `t${i}`);
  const all: Metadata = {
    "general.architecture": stringValue(architecture),
    "tokenizer.ggml.tokens": arrayValue(tokens),
    block_count: u32Value(model.layers),
    context_length: u32Value(512),
    embedding_length: u32Value(model.dim),
    feed_forward_length: u32Value(model.ffnDim),
    "attention.head_count": u32Value(model.heads),
    "attention.head_count_kv": u32Value(model.headsKv),
    "attention.key_length": u32Value(model.headDim),
    "attention.value_length": u32Value(model.headDim),
    "attention.layer_norm_rms_epsilon": f32Value(1e-5),
    "rope.freq_base": f32Value(10_000),
    ...keys,
  };
  const isOwn = (key: string): boolean => /^(?:general|tokenizer|split)\./.test(key);
  return writeGguf({
    metadata: Object.entries(all)
      .filter((entry): entry is [string, GgufValue] => entry[1] !== null)
      .map(([key, value]) => [isOwn(key) ? key : `${architecture}.${key}`, value]),
    tensors: tensors.map((tensor) => {
      const type = tensor.columns === null ? "F32" : model.type;
      const values = architecture === "llama" ? paired(tensor) : tensor.values;
      return {
        name: tensor.gguf,
        shape: tensor.columns === null ? [tensor.rows] : [tensor.columns, tensor.rows],
        type: [0, 1, 8, 30].find((number) => tensorTypeName(number) === type)!,
        data: encodeElements(type, values),
      };
    }),
  });
}

export type HeaderEntry = Readonly<Record<string, unknown>>;

/** A safetensors file; `change` may spoil its header. */
export function writeSafetensors(
  tensors: readonly { name: string; type: WrittenType; shape: readonly number[]; values: Float32Array }[],
  change: (header: Record<string, HeaderEntry>) => unknown = (header) => header,
): Buffer {
  let offset = 0;
  const data = tensors.map(({ type, values }) => encodeElements(type, values));
  const entries = tensors.map(({ name, type, shape }, i) => {
    const start = offset;
    offset += data[i]!.length;
    return [name, { dtype: type, shape, data_offsets: [start, offset] }] as const;
  });
  const changed = change({ __metadata__: { format: "pt" }, ...Object.fromEntries(entries) });
  return safetensorsOf(typeof changed === "string" ? changed : JSON.stringify(changed), ...data);
}

export function safetensorsOf(header: string, ...data: readonly Uint8Array[]): Buffer {
  const text = Buffer.from(header.padEnd(Math.ceil(header.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...data]);
}

export function shardOf(model: FixtureModel, tensors = fixtureTensors(model)): Buffer {
  const type = (columns: number | null): WrittenType => (columns === null ? "F32" : model.type);
  return writeSafetensors(
    tensors.map(({ huggingFace: name, rows, columns, values }) => ({
      name,
      type: type(columns),
      shape: columns === null ? [rows] : [rows, columns],
      values,
    })),
  );
}

export type Config = Readonly<Record<string, unknown>>;

export function configOf(model: FixtureModel, changes: Config = {}): Config {
  const classes = { llama: "Llama", mistral: "Mistral", qwen2: "Qwen2", qwen3: "Qwen3" };
  return {
    architectures: [`${classes[model.architecture]}ForCausalLM`],
    model_type: model.architecture,
    hidden_size: model.dim,
    intermediate_size: model.ffnDim,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    num_key_value_heads: model.headsKv,
    head_dim: model.headDim,
    vocab_size: model.vocabularySize,
    max_position_embeddings: 512,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: model.isTied,
    torch_dtype: "float16",
    sliding_window: null,
    ...changes,
  };
}

export function jsonSource(name: string, value: unknown): ByteSource {
  return memorySource(name, Buffer.from(typeof value === "string" ? value : JSON.stringify(value)));
}

export function safetensorsFiles(model: FixtureModel, changes: Config = {}): SafetensorsFiles {
  return {
    config: jsonSource("config.json", configOf(model, changes)),
    shards: [memorySource("model.safetensors", shardOf(model))],
  };
}

export const never: AbortSignal = new AbortController().signal;

/** Everything a model holds, in a fixed order. */
export async function readAll(model: ModelSource): Promise<[TensorRef, Float32Array][]> {
  const { shape } = model;
  const kinds: LayerTensor[] = ["attnNorm", "q", "k", "v", "attnOutput", "ffnNorm", "gate", "up", "down"];
  if (shape.hasQkvBias) kinds.push("qBias", "kBias", "vBias");
  if (shape.hasQkNorm) kinds.push("qNorm", "kNorm");
  const refs: TensorRef[] = [{ kind: "embedding" }, { kind: "outputNorm" }, { kind: "output" }];
  for (let layer = 0; layer < shape.layers; layer++) refs.push(...kinds.map((kind) => ({ kind, layer })));
  const all: [TensorRef, Float32Array][] = [];
  for (const ref of refs) {
    all.push([ref, await model.readRows(ref, 0, extentOf(shape, ref.kind).rows, never)]);
  }
  return all;
}

export function isSkeinError(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    if (error instanceof SkeinError && error.code === code && message.test(error.message)) return true;
    throw new Error(`expected ${code} ${message}, got ${String(error)}`, { cause: error });
  };
}
