/**
 * The file of a converted model, `.skein`:
 *
 *     "SKEINXM0" | header's length (u32, little-endian) | header (CBOR) | tensors in canonical order
 *
 * The header and each tensor begin at a multiple of 64 bytes from the file's beginning; the gaps are zero.
 * The header holds the manifest, what it commits to by hash (tokenizer, template, root of each tensor), and a name.
 */
import { encode, rfc8949EncodeOptions } from "cborg";
import type { z } from "zod";
import type { ByteSource } from "../../formats/byte-source.ts";
import { invalidModelFile } from "../../formats/errors.ts";
import type { TensorRef } from "../../formats/model-source.ts";
import { concatBytes, equalBytes, utf8 } from "../../util/bytes.ts";
import type { SkeinError } from "../../util/errors.ts";
import { hashBytes, type Sha256 } from "../commitment/commitment.ts";
import { type Manifest, manifestBytes, manifestOf, modelIdOf, tokenizerBytes } from "../model/manifest.ts";
import type { ExactShape, LayerRange, Quantization } from "../model/model.ts";
import { isInRange, type ModelSink, tensorsOf } from "../model/sink.ts";
import {
  isMatrixInRange,
  isNormInRange,
  matrixOfBytes,
  normOfBytes,
  type TensorExtent,
  tensorExtent,
} from "../model/weight-bytes.ts";
import { weightRoot } from "../model/weight-root.ts";
import { checkQuantization, checkShape } from "../model/limits.ts";
import { opsVersion } from "../ops/version.ts";
import type { TokenizerData } from "../tokenizer/data.ts";
import { checkTokenizer } from "../tokenizer/limits.ts";
import { type CborBounds, decodeBounded } from "./bounded-cbor.ts";
import { headerBounds, headerSchema, type HeaderFields, tokenizerBounds, tokenizerSchema } from "./schema.ts";

const magic = "SKEINXM0";
const alignment = 64;
const prefixBytes = 12;
/** Vocabularies of 600,000 tokens with their merges take some 30 MB. */
const headerBytesMax: number = 64 * 2 ** 20;
const convertAgain = "Convert the model again with `skein exact convert`.";

interface HeaderParts {
  readonly manifest: Manifest;
  /** What the file's maker called the model. */
  readonly name: string;
  readonly chatTemplate: string | null;
  readonly tensorRoots: readonly Uint8Array[];
}

/** What a container says but for its tokenizer: enough to read its weights. */
export interface ContainerHeader extends HeaderParts {
  readonly modelId: string;
  /** As `tokenizerBytes` makes them, if the file is what it says. */
  readonly tokenizerBytes: Uint8Array;
  /** First byte of each tensor, in canonical order. */
  readonly offsets: readonly number[];
}

/** What a container says before any weight is read. */
export interface ContainerInfo extends ContainerHeader {
  readonly tokenizer: TokenizerData;
}

const aligned = (at: number): number => Math.ceil(at / alignment) * alignment;

/** The bytes before the first tensor; their number does not depend on hashes. */
export function headerBytes({
  name,
  manifest,
  tokenizerBytes: tokenizer,
  chatTemplate,
  tensorRoots,
}: HeaderParts & { readonly tokenizerBytes: Uint8Array }): Uint8Array {
  const header = encode(
    { name, manifest, tokenizer, chatTemplate, tensorRoots: concatBytes(tensorRoots) },
    rfc8949EncodeOptions,
  );
  const bytes = new Uint8Array(aligned(prefixBytes + header.length));
  bytes.set(utf8(magic));
  new DataView(bytes.buffer).setUint32(8, header.length, true);
  bytes.set(header, prefixBytes);
  return bytes;
}

/** Where each tensor begins behind a header of `start` bytes, and how long the file is. */
export function layout(
  shape: ExactShape,
  quantization: Quantization,
  start: number,
): { offsets: number[]; fileBytes: number } {
  let at = start;
  const offsets = tensorsOf(shape).map(({ kind }) => {
    const offset = at;
    at = aligned(offset + tensorExtent(shape, quantization, kind).bytes);
    return offset;
  });
  return { offsets, fileBytes: at };
}

/** @throws SkeinError `invalid_model_file` unless the header is whole, canonical and true to its own hashes */
export async function openContainer(
  source: ByteSource,
  sha256: Sha256,
  signal: AbortSignal,
): Promise<ContainerInfo> {
  const header = await readHeader(source, sha256, signal);
  return { ...header, tokenizer: tokenizerOf(source.name, header) };
}

/** The first half of `openContainer`, which takes a tenth of its time. @throws as that */
export async function readHeader(
  source: ByteSource,
  sha256: Sha256,
  signal: AbortSignal,
): Promise<ContainerHeader> {
  const broken = brokenFile(source.name);
  // 1. Its beginning.
  if (source.size < prefixBytes) throw broken("is too short for a converted model");
  const prefix = await source.read(0, prefixBytes, signal);
  if (new TextDecoder().decode(prefix.subarray(0, 8)) !== magic) throw broken("is not a converted model");
  const length = new DataView(prefix.buffer, prefix.byteOffset).getUint32(8, true);
  if (length > headerBytesMax || prefixBytes + length > source.size) {
    throw broken(`says that its header has ${length} bytes`);
  }
  // 2. The header.
  const header = parseHeader(await source.read(prefixBytes, length, signal), broken);
  checkShape(header.manifest.shape);
  checkQuantization(header.manifest.quantization, header.manifest.shape);
  if (header.manifest.opsVersion !== opsVersion) {
    throw broken(
      `was made for version ${header.manifest.opsVersion} of the operations, this is ${opsVersion}`,
    );
  }
  // 3. What it holds against what its manifest says.
  const { name, chatTemplate, tokenizer } = header;
  const { shape, quantization } = header.manifest;
  const hiddenBytes = header.tensorRoots.length - hashBytes * tensorsOf(shape).length;
  if (hiddenBytes > 0) throw broken(notConverted);
  const tensorRoots = splitHashes(header.tensorRoots);
  const manifest = manifestOf(sha256, {
    quantization,
    shape,
    tokenizerBytes: tokenizer,
    chatTemplate,
    tensorRoots,
  });
  const isTrue =
    tensorRoots.length === tensorsOf(shape).length &&
    equalBytes(manifestBytes(manifest), manifestBytes(header.manifest));
  if (!isTrue) throw broken("has a header that contradicts itself, or was made by another version");
  const parts = { manifest, name, tokenizerBytes: tokenizer, chatTemplate, tensorRoots };
  const start = aligned(prefixBytes + length);
  // One model has one header: nothing may hide in what was not looked at.
  const isCanonical =
    start <= source.size && equalBytes(headerBytes(parts), await source.read(0, start, signal));
  if (!isCanonical) throw broken(notConverted);
  // 4. The size of what follows.
  const { offsets, fileBytes } = layout(shape, quantization, start);
  if (source.size !== fileBytes) throw broken(`has ${source.size} bytes instead of ${fileBytes}`);
  return { ...parts, modelId: modelIdOf(sha256, manifest), offsets };
}

/** The second half. @param file its name */
export function tokenizerOf(
  file: string,
  { tokenizerBytes: bytes, manifest }: ContainerHeader,
): TokenizerData {
  const broken = brokenFile(file);
  const { scores, ...rest } = parse(tokenizerSchema, tokenizerBounds, bytes, "tokenizer", broken);
  const tokenizer = checkTokenizer({ ...rest, scores: scores === null ? null : floatsOf(scores) });
  if (!equalBytes(tokenizerBytes(tokenizer), bytes)) throw broken(notConverted);
  if (tokenizer.tokens.length > manifest.shape.vocabularySize) {
    throw broken("has more tokens than its vocabulary");
  }
  return tokenizer;
}

const notConverted = "has a header that no conversion writes";

function brokenFile(file: string): (why: string) => SkeinError {
  return (why) => invalidModelFile(file, why, convertAgain);
}

function parseHeader(bytes: Uint8Array, broken: (why: string) => Error): HeaderFields {
  return parse(headerSchema, headerBounds, bytes, "header", broken);
}

function parse<T>(
  schema: z.ZodType<T>,
  bounds: CborBounds,
  bytes: Uint8Array,
  what: string,
  broken: (why: string) => Error,
): T {
  let value: unknown;
  try {
    value = decodeBounded(bytes, bounds);
  } catch (error) {
    throw broken(`has a broken ${what} (${error instanceof Error ? error.message : String(error)})`);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw broken(`has a broken ${what} (${issue?.path.join(".")}: ${issue?.message})`);
}

function splitHashes(bytes: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.floor(bytes.length / hashBytes) }, (_, i) =>
    bytes.slice(i * hashBytes, (i + 1) * hashBytes),
  );
}

function floatsOf(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: Math.floor(bytes.length / 4) }, (_, i) => view.getFloat32(4 * i, true));
}

export interface ReadOptions {
  readonly signal: AbortSignal;
  /** Default: the whole model. */
  readonly range?: LayerRange;
  readonly onProgress?: (readBytes: number, totalBytes: number) => void;
}

/**
 * Reads the weights of a range into a sink and checks each tensor against its root.
 * @throws SkeinError `invalid_model_file`, `cancelled`
 */
export async function readContainer(
  source: ByteSource,
  info: ContainerHeader,
  sha256: Sha256,
  sink: ModelSink,
  options: ReadOptions,
): Promise<void> {
  const { shape, quantization } = info.manifest;
  const range = options.range ?? { start: 0, end: shape.layers };
  const wanted = tensorsOf(shape)
    .map((tensor, index) => ({ tensor, index, extent: tensorExtent(shape, quantization, tensor.kind) }))
    .filter(({ tensor }) => isInRange(tensor, shape, range));
  const total = wanted.reduce((sum, { extent }) => sum + extent.bytes, 0);
  let done = 0;
  for (const { tensor, index, extent } of wanted) {
    const bytes = await source.read(info.offsets[index]!, extent.bytes, options.signal);
    if (!equalBytes(weightRoot(sha256, [bytes]), info.tensorRoots[index]!)) {
      throw damagedTensor(source.name, tensor);
    }
    await pour(sink, tensor, extent, bytes, () => impossibleNumbers(source.name));
    options.onProgress?.((done += extent.bytes), total);
  }
}

export function damagedTensor(file: string, tensor: TensorRef): SkeinError {
  const name = "layer" in tensor ? `${tensor.kind} of layer ${tensor.layer}` : tensor.kind;
  return invalidModelFile(file, `is damaged: ${name} is not what its hash says`, convertAgain);
}

export function impossibleNumbers(file: string): SkeinError {
  return invalidModelFile(file, "holds numbers that no conversion makes", convertAgain);
}

/** @throws what `outOfRange` makes */
async function pour(
  sink: ModelSink,
  tensor: TensorRef,
  extent: TensorExtent,
  bytes: Uint8Array,
  outOfRange: () => Error,
): Promise<void> {
  if (extent.isNorm) {
    const norm = normOfBytes(extent, bytes);
    if (!isNormInRange(norm)) throw outOfRange();
    await sink.norm(tensor, norm);
  } else {
    const matrix = matrixOfBytes(extent, bytes);
    if (!isMatrixInRange(matrix)) throw outOfRange();
    await sink.matrix(tensor, matrix);
  }
}
