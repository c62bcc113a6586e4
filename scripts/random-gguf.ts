/**
 * Writes a llama-family GGUF file with random weights: for benchmarks that need a model of a certain
 * size and care about its speed, not about what it says. The tokenizer comes from an existing file.
 *
 *   node scripts/random-gguf.ts <out.gguf> [--layers 16] [--embedding 768] [--type Q8_0] [--seed 1]
 */
import { open, readFile, rename, type FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

export interface RandomGgufShape {
  readonly layers: number;
  readonly embedding: number;
  readonly feedForward: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly contextTokens: number;
  readonly type: "F16" | "Q8_0";
  readonly seed: number;
}

/** About 113 million parameters with the vocabulary of the demo model. */
export const shape120M: RandomGgufShape = {
  layers: 16,
  embedding: 768,
  feedForward: 2304,
  heads: 12,
  headsKv: 4,
  contextTokens: 4096,
  type: "Q8_0",
  seed: 1,
};

interface Tensor {
  readonly name: string;
  readonly dims: readonly number[];
  readonly kind: "norm" | "matrix";
  /** Leading rows that stay zero: control tokens, so that greedy decoding never ends by itself. */
  readonly zeroRows: number;
}

const demoModel = join(dirname(dirname(fileURLToPath(import.meta.url))), "models", "tiny.Q8_0.gguf");
/** Numbers of GGUF's and ggml's enums. */
const value = { uint32: 4, float32: 6, string: 8, array: 9 } as const;
const ggmlType = { F32: 0, F16: 1, Q8_0: 8 } as const;
const fileType = { F16: 1, Q8_0: 7 } as const;
const alignmentBytes = 32;
const chunkBytes = 1 << 20;

/** Writes `path` whole or not at all. */
export async function writeRandomGguf(
  path: string,
  shape: RandomGgufShape = shape120M,
  tokenizerFrom: string = demoModel,
): Promise<void> {
  const tokenizer = readTokenizer(await readFile(tokenizerFrom));
  const tensors = tensorsOf(shape, tokenizer.vocabularySize, tokenizer.controlTokens);
  const partial = `${path}.${process.pid}.partial`;
  const file = await open(partial, "w");
  try {
    await file.write(header(shape, tokenizer, tensors));
    let draw = shape.seed >>> 0;
    for (const tensor of tensors) draw = await writeTensor(file, tensor, shape, draw);
  } finally {
    await file.close();
  }
  await rename(partial, path);
}

function norm(name: string, size: number): Tensor {
  return { name, dims: [size], kind: "norm", zeroRows: 0 };
}

function matrix(name: string, columns: number, rows: number, zeroRows = 0): Tensor {
  return { name, dims: [columns, rows], kind: "matrix", zeroRows };
}

function tensorsOf(shape: RandomGgufShape, vocabulary: number, controlTokens: number): Tensor[] {
  const { embedding, feedForward, headsKv, heads } = shape;
  const kv = (embedding / heads) * headsKv;
  const layer = (i: number): Tensor[] => [
    norm(`blk.${i}.attn_norm.weight`, embedding),
    matrix(`blk.${i}.attn_q.weight`, embedding, embedding),
    matrix(`blk.${i}.attn_k.weight`, embedding, kv),
    matrix(`blk.${i}.attn_v.weight`, embedding, kv),
    matrix(`blk.${i}.attn_output.weight`, embedding, embedding),
    norm(`blk.${i}.ffn_norm.weight`, embedding),
    matrix(`blk.${i}.ffn_gate.weight`, embedding, feedForward),
    matrix(`blk.${i}.ffn_up.weight`, embedding, feedForward),
    matrix(`blk.${i}.ffn_down.weight`, feedForward, embedding),
  ];
  return [
    matrix("token_embd.weight", embedding, vocabulary),
    ...Array.from({ length: shape.layers }, (_, i) => layer(i)).flat(),
    norm("output_norm.weight", embedding),
    matrix("output.weight", embedding, vocabulary, controlTokens),
  ];
}

// --- header -----------------------------------------------------------------------------------

function header(shape: RandomGgufShape, tokenizer: Tokenizer, tensors: readonly Tensor[]): Buffer {
  const own = [
    entry("general.architecture", text("llama"), value.string),
    entry("general.name", text(`Random ${shape.embedding}x${shape.layers}`), value.string),
    entry("general.file_type", u32(fileType[shape.type]), value.uint32),
    entry("llama.block_count", u32(shape.layers), value.uint32),
    entry("llama.context_length", u32(shape.contextTokens), value.uint32),
    entry("llama.embedding_length", u32(shape.embedding), value.uint32),
    entry("llama.feed_forward_length", u32(shape.feedForward), value.uint32),
    entry("llama.attention.head_count", u32(shape.heads), value.uint32),
    entry("llama.attention.head_count_kv", u32(shape.headsKv), value.uint32),
    entry("llama.attention.layer_norm_rms_epsilon", f32(1e-5), value.float32),
    entry("llama.rope.freq_base", f32(10_000), value.float32),
    entry("llama.vocab_size", u32(tokenizer.vocabularySize), value.uint32),
  ];
  let offset = 0;
  const infos = tensors.map((tensor) => {
    const type = tensor.kind === "norm" ? "F32" : shape.type;
    const info = Buffer.concat([
      text(tensor.name),
      u32(tensor.dims.length),
      ...tensor.dims.map(u64),
      u32(ggmlType[type]),
      u64(offset),
    ]);
    offset += padded(tensorBytes(tensor, shape));
    return info;
  });
  const parts = Buffer.concat([
    Buffer.from("GGUF"),
    u32(3),
    u64(tensors.length),
    u64(own.length + tokenizer.entries.length),
    ...own,
    ...tokenizer.entries,
    ...infos,
  ]);
  return Buffer.concat([parts, Buffer.alloc(padded(parts.length) - parts.length)]);
}

function u32(n: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(n);
  return buffer;
}

function u64(n: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(n));
  return buffer;
}

function f32(n: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(n);
  return buffer;
}

function text(s: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);
}

function entry(key: string, content: Buffer, type: number): Buffer {
  return Buffer.concat([text(key), u32(type), content]);
}

function padded(bytes: number): number {
  return Math.ceil(bytes / alignmentBytes) * alignmentBytes;
}

// --- weights ----------------------------------------------------------------------------------

function tensorBytes({ dims, kind }: Tensor, { type }: RandomGgufShape): number {
  const elements = dims.reduce((product, size) => product * size, 1);
  if (kind === "norm") return elements * 4;
  return type === "F16" ? elements * 2 : (elements / 32) * 34;
}

/** Returns the state of the generator after the tensor. */
async function writeTensor(
  file: FileHandle,
  tensor: Tensor,
  shape: RandomGgufShape,
  draw: number,
): Promise<number> {
  const total = padded(tensorBytes(tensor, shape));
  if (tensor.kind === "norm") {
    const ones = new Float32Array(tensor.dims[0]!).fill(1);
    const buffer = Buffer.alloc(total);
    buffer.set(new Uint8Array(ones.buffer));
    await file.write(buffer);
    return draw;
  }
  const [columns = 0, rows = 0] = tensor.dims;
  const rowBytes = total / rows;
  const rowsPerChunk = Math.max(1, Math.floor(chunkBytes / rowBytes));
  // Uniform in ±√3/√columns: activations keep their size from layer to layer.
  const fill = shape.type === "F16" ? fillF16 : fillQ8;
  for (let row = 0; row < rows; row += rowsPerChunk) {
    const chunk = Buffer.alloc(Math.min(rowsPerChunk, rows - row) * rowBytes);
    const from = Math.max(0, tensor.zeroRows - row) * rowBytes;
    if (from < chunk.length) draw = fill(chunk.subarray(from), columns, draw);
    await file.write(chunk);
  }
  return draw;
}

/** xorshift32 (George Marsaglia, 2003); its state must not be zero. */
function nextDraw(state: number): number {
  let x = state === 0 ? 1 : state;
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  return x >>> 0;
}

/** Blocks of one F16 scale and 32 signed bytes. */
function fillQ8(buffer: Buffer, columns: number, state: number): number {
  const scale = float16Bits(Math.sqrt(3 / columns) / 127);
  for (let at = 0; at < buffer.length; at += 34) {
    buffer.writeUInt16LE(scale, at);
    for (let i = 2; i < 34; i += 4) {
      state = nextDraw(state);
      buffer.writeUInt32LE(state, at + i);
    }
  }
  return state;
}

function fillF16(buffer: Buffer, columns: number, state: number): number {
  const range = Math.sqrt(3 / columns);
  for (let at = 0; at < buffer.length; at += 2) {
    state = nextDraw(state);
    buffer.writeUInt16LE(float16Bits((state / 2 ** 31 - 1) * range), at);
  }
  return state;
}

/** Bits of the nearest half-precision number below 1 in size; tiny ones become zero. */
function float16Bits(n: number): number {
  const size = Math.abs(n);
  const sign = n < 0 ? 0x8000 : 0;
  const exponent = Math.floor(Math.log2(size));
  if (exponent < -14) return sign | Math.round(size * 2 ** 24);
  return sign | (((exponent + 15) << 10) + Math.round((size / 2 ** exponent - 1) * 1024));
}

// --- the tokenizer of another file --------------------------------------------------------------

interface Tokenizer {
  /** Whole key–value entries, byte for byte. */
  readonly entries: readonly Buffer[];
  readonly vocabularySize: number;
  /** Control tokens at the beginning of the vocabulary. */
  readonly controlTokens: number;
}

/** Byte lengths of GGUF's fixed-size value types by their number. */
const valueBytes: readonly number[] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const controlType = 3;

function readTokenizer(file: Buffer): Tokenizer {
  const entries: Buffer[] = [];
  let at = 24;
  let vocabularySize = 0;
  let controlTokens = 0;
  for (let left = Number(file.readBigUInt64LE(16)); left > 0; left--) {
    const start = at;
    const keyLength = Number(file.readBigUInt64LE(at));
    const key = file.toString("utf8", at + 8, at + 8 + keyLength);
    const valueStart = at + 8 + keyLength + 4;
    at = skipValue(file, valueStart, file.readUInt32LE(valueStart - 4));
    if (key.startsWith("tokenizer.")) entries.push(file.subarray(start, at));
    if (key === "tokenizer.ggml.token_type") {
      vocabularySize = Number(file.readBigUInt64LE(valueStart + 4));
      while (file.readInt32LE(valueStart + 12 + 4 * controlTokens) === controlType) controlTokens += 1;
    }
  }
  return { entries, vocabularySize, controlTokens };
}

function skipValue(file: Buffer, at: number, type: number): number {
  if (type === value.string) return at + 8 + Number(file.readBigUInt64LE(at));
  if (type !== value.array) return at + valueBytes[type]!;
  const itemType = file.readUInt32LE(at);
  let next = at + 12;
  for (let left = Number(file.readBigUInt64LE(at + 4)); left > 0; left--) {
    next = skipValue(file, next, itemType);
  }
  return next;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      layers: { type: "string" },
      embedding: { type: "string" },
      type: { type: "string" },
      seed: { type: "string" },
    },
  });
  const embedding = Number(values.embedding ?? shape120M.embedding);
  await writeRandomGguf(positionals[0] ?? "random.gguf", {
    ...shape120M,
    embedding,
    feedForward: embedding * 3,
    heads: embedding / 64,
    headsKv: embedding % 192 === 0 ? embedding / 192 : embedding / 64,
    layers: Number(values.layers ?? shape120M.layers),
    type: values.type === "F16" ? "F16" : "Q8_0",
    seed: Number(values.seed ?? shape120M.seed),
  });
}
