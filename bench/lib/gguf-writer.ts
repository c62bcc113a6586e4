/** Writes any model source as a GGUF file, tensor by tensor, so that the model need not fit into memory. */
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { arrayOf, type GgufValue } from "../../src/formats/gguf/parse.ts";
import { readGgufHeader } from "../../src/engine/gguf/read.ts";
import {
  type DecoderShape,
  extentOf,
  type ModelSource,
  type TensorRef,
} from "../../src/formats/model-source.ts";
import type { RopeSettings } from "./rope.ts";
import { ggufName, isVector, storedType, tensorsOf } from "./tensors.ts";
import { encodeWeights, storedBytes, weightFormats, type WeightType } from "./weight-types.ts";

export const demoModel: string = join(
  dirname(fileURLToPath(import.meta.url)),
  "..",
  "..",
  "models",
  "tiny.Q8_0.gguf",
);

export type GgufMetadata = readonly (readonly [key: string, value: GgufValue])[];

/** Numbers of GGUF's value types. */
const valueTypes = { u32: 4, f32: 6, string: 8 } as const;
const alignmentBytes = 32;
const chunkElements = 1 << 18;
const controlTokenType = 3;
const unusedTokenType = 5;

/** Writes `path` whole or not at all; matrices are stored as `type`, vectors as F32. */
export async function writeGguf(
  path: string,
  source: ModelSource,
  type: WeightType,
  metadata: GgufMetadata,
  ropeFactors: readonly number[] | null,
): Promise<void> {
  const tensors = plan(source, type, ropeFactors);
  const partial = `${path}.${process.pid}.partial`;
  const file = await open(partial, "w");
  try {
    await file.write(header(metadata, tensors));
    for (const tensor of tensors) await writeTensor(file, tensor);
    await file.close();
    await rename(partial, path);
  } catch (error) {
    await file.close();
    await rm(partial, { force: true });
    throw error;
  }
}

// --- metadata -----------------------------------------------------------------------------------

export interface Tokenizer {
  readonly metadata: GgufMetadata;
  readonly vocabularySize: number;
  /** Control tokens at the beginning of the vocabulary. */
  readonly controlTokens: number;
}

/** The tokenizer's entries of a file, byte for byte. */
export async function readTokenizer(path: string): Promise<Tokenizer> {
  const { metadata } = await readGgufHeader(path);
  const types = arrayOf(metadata.get("tokenizer.ggml.token_type"));
  const firstPlain = types.findIndex((type) => type !== controlTokenType);
  return {
    metadata: [...metadata].filter(([key]) => key.startsWith("tokenizer.")),
    vocabularySize: types.length,
    controlTokens: firstPlain < 0 ? types.length : firstPlain,
  };
}

/** With tokens that no text becomes, up to a vocabulary of this size: as large as those of usual models. */
export function padTokenizer(tokenizer: Tokenizer, vocabularySize: number): Tokenizer {
  const count = vocabularySize - tokenizer.vocabularySize;
  const names = Array.from({ length: count }, (_, i) => text(`<|unused-${i}|>`));
  const types = Array.from({ length: count }, () => u32(unusedTokenType).bytes);
  const more: Readonly<Record<string, readonly Uint8Array[]>> = {
    "tokenizer.ggml.tokens": names,
    "tokenizer.ggml.token_type": types,
  };
  const metadata = tokenizer.metadata.map(([key, { type, bytes }]) => {
    const items = more[key];
    if (items === undefined) return [key, { type, bytes }] as const;
    // A list: the type of its items, their number, and the items.
    const all = [bytes.subarray(0, 4), u64(vocabularySize), bytes.subarray(12), ...items];
    return [key, { type, bytes: Buffer.concat(all) }] as const;
  });
  return { ...tokenizer, metadata, vocabularySize };
}

/** What llama.cpp needs to know of a model besides its tokenizer. */
export function shapeMetadata(
  shape: DecoderShape,
  rope: RopeSettings,
  type: WeightType,
  name: string,
): GgufMetadata {
  // Mistral's decoder is Llama's, and files say so.
  const architecture = shape.architecture === "mistral" ? "llama" : shape.architecture;
  const own = (key: string, value: GgufValue): readonly [string, GgufValue] => [
    `${architecture}.${key}`,
    value,
  ];
  return [
    ["general.architecture", string(architecture)],
    ["general.name", string(name)],
    ["general.file_type", u32(weightFormats[type].fileType)],
    own("block_count", u32(shape.layers)),
    own("context_length", u32(shape.contextTokensMax)),
    own("embedding_length", u32(shape.dim)),
    own("feed_forward_length", u32(shape.ffnDim)),
    own("attention.head_count", u32(shape.heads)),
    own("attention.head_count_kv", u32(shape.headsKv)),
    own("attention.key_length", u32(shape.headDim)),
    own("attention.value_length", u32(shape.headDim)),
    own("attention.layer_norm_rms_epsilon", f32(shape.rmsEpsilon)),
    own("rope.dimension_count", u32(shape.headDim)),
    own("rope.freq_base", f32(rope.base)),
    own("vocab_size", u32(shape.vocabularySize)),
    ...scalingMetadata(rope).map(([key, value]) => own(key, value)),
  ];
}

/** Llama 3's scaling is a tensor, not metadata. */
function scalingMetadata({ scaling }: RopeSettings): GgufMetadata {
  if (scaling.kind !== "linear" && scaling.kind !== "yarn") return [];
  const common: GgufMetadata = [
    ["rope.scaling.type", string(scaling.kind)],
    ["rope.scaling.factor", f32(scaling.factor)],
  ];
  return scaling.kind === "linear"
    ? common
    : [...common, ["rope.scaling.original_context_length", u32(scaling.originalContextTokens)]];
}

export function u32(n: number): GgufValue {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(n);
  return { type: valueTypes.u32, bytes };
}

function f32(n: number): GgufValue {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(n);
  return { type: valueTypes.f32, bytes };
}

function string(s: string): GgufValue {
  return { type: valueTypes.string, bytes: text(s) };
}

function u64(n: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(n));
  return buffer;
}

function text(s: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);
}

// --- tensors ------------------------------------------------------------------------------------

interface PlannedTensor {
  readonly name: string;
  readonly type: WeightType;
  readonly rows: number;
  readonly columns: number;
  readonly isVector: boolean;
  /** Rows are written in multiples of it. */
  readonly rowsTogether: number;
  read(start: number, count: number): Promise<Float32Array>;
}

function plan(source: ModelSource, type: WeightType, factors: readonly number[] | null): PlannedTensor[] {
  const { shape } = source;
  const signal = new AbortController().signal;
  const tensors = tensorsOf(shape).map((tensor): PlannedTensor => {
    const { rows, columns } = extentOf(shape, tensor.kind);
    const interleaved = hasInterleavedPairs(shape, tensor);
    return {
      name: ggufName(tensor),
      type: storedType(tensor.kind, type),
      rows,
      columns,
      isVector: isVector(tensor.kind),
      rowsTogether: interleaved ? shape.headDim : 1,
      read: async (start, count) => {
        const values = await source.readRows(tensor, start, count, signal);
        return interleaved ? interleavePairs(values, shape.headDim, columns) : values;
      },
    };
  });
  if (factors === null) return tensors;
  const factorTensor: PlannedTensor = {
    name: "rope_freqs.weight",
    type: "F32",
    rows: 1,
    columns: factors.length,
    isVector: true,
    rowsTogether: 1,
    read: () => Promise.resolve(Float32Array.from(factors)),
  };
  return [...tensors, factorTensor];
}

/** llama.cpp rotates neighbouring channels of `llama` models and channels half a head apart of all others. */
function hasInterleavedPairs({ architecture }: DecoderShape, { kind }: TensorRef): boolean {
  return (architecture === "llama" || architecture === "mistral") && (kind === "q" || kind === "k");
}

/** Whole heads, from pairs (i, i + headDim / 2) to pairs (2i, 2i + 1). */
function interleavePairs(values: Float32Array, headDim: number, columns: number): Float32Array {
  const moved = new Float32Array(values.length);
  for (let row = 0; row < values.length / columns; row++) {
    const inHead = row % headDim;
    const pair = inHead % (headDim / 2);
    const to = row - inHead + 2 * pair + (inHead < headDim / 2 ? 0 : 1);
    moved.set(values.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return moved;
}

function tensorBytes({ type, rows, columns }: PlannedTensor): number {
  return rows * storedBytes(type, columns);
}

async function writeTensor(file: FileHandle, tensor: PlannedTensor): Promise<void> {
  const { rows, columns, rowsTogether } = tensor;
  const step = Math.max(1, Math.floor(chunkElements / columns / rowsTogether)) * rowsTogether;
  for (let row = 0; row < rows; row += step) {
    const values = await tensor.read(row, Math.min(step, rows - row));
    await file.write(encodeWeights(tensor.type, values));
  }
  const bytes = tensorBytes(tensor);
  if (padded(bytes) > bytes) await file.write(Buffer.alloc(padded(bytes) - bytes));
}

function header(metadata: GgufMetadata, tensors: readonly PlannedTensor[]): Buffer {
  const entries = metadata.map(([key, { type, bytes }]) =>
    Buffer.concat([text(key), u32(type).bytes, bytes]),
  );
  let offset = 0;
  const infos = tensors.map((tensor) => {
    const dims = tensor.isVector ? [tensor.columns] : [tensor.columns, tensor.rows];
    const info = Buffer.concat([
      text(tensor.name),
      u32(dims.length).bytes,
      ...dims.map(u64),
      u32(weightFormats[tensor.type].ggmlType).bytes,
      u64(offset),
    ]);
    offset += padded(tensorBytes(tensor));
    return info;
  });
  const whole = Buffer.concat([
    Buffer.from("GGUF"),
    u32(3).bytes,
    u64(tensors.length),
    u64(metadata.length),
    ...entries,
    ...infos,
  ]);
  return Buffer.concat([whole, Buffer.alloc(padded(whole.length) - whole.length)]);
}

function padded(bytes: number): number {
  return Math.ceil(bytes / alignmentBytes) * alignmentBytes;
}
