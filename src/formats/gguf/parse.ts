/**
 * The header of a GGUF file (docs/gguf.md of ggml), strictly and in bounded time and memory.
 *
 * Not with `@huggingface/gguf`: it pads what it has read with zeros, so that it takes a header that is cut off
 * for a whole one and shortens long strings; of a repeated key it takes the last value; and it forgets the
 * types and bytes of values, which an identity must cover.
 */

/** A metadata value as it stands in the file. */
export interface GgufValue {
  readonly type: number;
  readonly bytes: Uint8Array;
}

export interface GgufTensorInfo {
  readonly name: string;
  readonly shape: readonly number[];
  /** Number of the ggml type; see `tensor-types.ts`. */
  readonly type: number;
  /** From the beginning of the tensor data. */
  readonly offset: number;
}

export interface ParsedGguf {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensorInfo[];
  /** Byte of the file where the tensor data begins. */
  readonly dataStart: number;
}

export type GgufScalar = string | number | bigint | boolean;

/** The file is not what it should be; the message completes a sentence that begins with its name. */
export class BrokenGguf extends Error {}
/** The bytes given end within the header; the file goes on. */
export class HeaderGoesOn extends Error {}

/** Ten times what the largest models have. */
const entriesMax = 100_000;
/** The largest vocabularies in use have 600,000 merges. */
const arrayElementsMax = 4_000_000;
const keyBytesMax = 65_535;
/** llama.cpp allows 63, some of its relatives 127. */
const tensorNameBytesMax = 127;
const dimensionsMax = 4;
const alignmentDefault = 32;
const alignmentMax = 65_536;

const boolType = 7;
const stringType = 8;
const arrayType = 9;
const readers: Readonly<Record<number, { bytes: number; read: (from: DataView, at: number) => GgufScalar }>> =
  {
    0: { bytes: 1, read: (from, at) => from.getUint8(at) },
    1: { bytes: 1, read: (from, at) => from.getInt8(at) },
    2: { bytes: 2, read: (from, at) => from.getUint16(at, true) },
    3: { bytes: 2, read: (from, at) => from.getInt16(at, true) },
    4: { bytes: 4, read: (from, at) => from.getUint32(at, true) },
    5: { bytes: 4, read: (from, at) => from.getInt32(at, true) },
    6: { bytes: 4, read: (from, at) => from.getFloat32(at, true) },
    [boolType]: { bytes: 1, read: (from, at) => from.getUint8(at) !== 0 },
    10: { bytes: 8, read: (from, at) => from.getBigUint64(at, true) },
    11: { bytes: 8, read: (from, at) => from.getBigInt64(at, true) },
    12: { bytes: 8, read: (from, at) => from.getFloat64(at, true) },
  };
const magic: readonly number[] = [0x47, 0x47, 0x55, 0x46];

/**
 * Parses the beginning of a file of `fileBytes` bytes.
 * @throws BrokenGguf, HeaderGoesOn
 */
export function parseGguf(bytes: Uint8Array, fileBytes: number): ParsedGguf {
  const cursor = new Cursor(bytes, fileBytes);
  checkVersion(cursor);
  const tensorCount = cursor.count(entriesMax, "tensors");
  const keyCount = cursor.count(entriesMax, "metadata entries");
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.text(keyBytesMax);
    // Programs differ in which one they take: the identity would not tell what runs.
    if (metadata.has(key)) throw new BrokenGguf(`has the key ${shown(key)} twice`);
    metadata.set(key, readValue(cursor));
  }
  const tensors = new Map<string, GgufTensorInfo>();
  const alignment = alignmentOf(metadata);
  for (let i = 0; i < tensorCount; i++) {
    const tensor = readTensorInfo(cursor, alignment);
    if (tensors.has(tensor.name)) throw new BrokenGguf(`has the tensor ${shown(tensor.name)} twice`);
    tensors.set(tensor.name, tensor);
  }
  const dataStart = Math.ceil(cursor.at / alignment) * alignment;
  return { metadata, tensors: [...tensors.values()], dataStart };
}

function checkVersion(cursor: Cursor): void {
  if (cursor.fileBytes < 8 || cursor.take(4).some((byte, i) => byte !== magic[i])) {
    throw new BrokenGguf("is not a GGUF file (it does not begin with GGUF)");
  }
  const version = cursor.u32();
  if (version === 2 || version === 3) return;
  if (version !== 0 && version % 65_536 === 0)
    throw new BrokenGguf("is a big-endian GGUF file, which is not supported");
  throw new BrokenGguf(`has GGUF version ${version}, which is not supported`);
}

function readValue(cursor: Cursor): GgufValue {
  const type = cursor.u32();
  const start = cursor.at;
  if (type === arrayType) skipArray(cursor);
  else skipElements(cursor, type, 1);
  return { type, bytes: cursor.since(start) };
}

function skipArray(cursor: Cursor): void {
  const type = cursor.u32();
  skipElements(cursor, type, cursor.count(arrayElementsMax, "values in a list"));
}

function skipElements(cursor: Cursor, type: number, count: number): void {
  const fixed = readers[type];
  if (fixed !== undefined) cursor.skip(count * fixed.bytes);
  // Each one takes bytes of the file, so that a huge count ends soon.
  else if (type === stringType) for (let i = 0; i < count; i++) cursor.skip(cursor.length());
  else throw new BrokenGguf(`has metadata of the unknown type ${type}, or arrays in arrays`);
}

function readTensorInfo(cursor: Cursor, alignment: number): GgufTensorInfo {
  const name = cursor.text(tensorNameBytesMax);
  const dimensions = cursor.u32();
  if (dimensions > dimensionsMax) throw new BrokenGguf(`has a tensor of ${dimensions} dimensions`);
  const shape = Array.from({ length: dimensions }, () => cursor.length());
  const type = cursor.u32();
  const offset = cursor.length();
  if (offset % alignment !== 0) throw new BrokenGguf(`has the tensor ${shown(name)} at an odd place`);
  return { name, shape, type, offset };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>): number {
  const value = metadata.get("general.alignment");
  if (value === undefined) return alignmentDefault;
  const alignment = scalarOf(value);
  const isPowerOfTwo = typeof alignment === "number" && Number.isInteger(Math.log2(alignment));
  if (isPowerOfTwo && alignment >= 1 && alignment <= alignmentMax) return alignment;
  throw new BrokenGguf(`has the alignment ${String(alignment).slice(0, 20)}`);
}

/** A single value; undefined when there is none, or an array. */
export function scalarOf(value: GgufValue | undefined): GgufScalar | undefined {
  if (value?.type === stringType) return lenientUtf8.decode(value.bytes.subarray(8));
  return value === undefined ? undefined : readers[value.type]?.read(viewOf(value.bytes), 0);
}

/** The elements of an array; empty when there is none. */
export function arrayOf(value: GgufValue | undefined): GgufScalar[] {
  if (value?.type !== arrayType) return [];
  const cursor = new Cursor(value.bytes, value.bytes.length);
  const type = cursor.u32();
  const reader = readers[type];
  const next = (): GgufScalar =>
    reader === undefined
      ? lenientUtf8.decode(cursor.take(cursor.length()))
      : reader.read(cursor.view, cursor.skip(reader.bytes));
  return Array.from({ length: cursor.length() }, next);
}

/** Number of elements of an array; null when there is none. */
export function arrayLengthOf(value: GgufValue | undefined): number | null {
  return value?.type === arrayType ? Number(viewOf(value.bytes).getBigUint64(4, true)) : null;
}

function shown(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true });
const lenientUtf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Reads forward, never beyond the given bytes. */
class Cursor {
  readonly fileBytes: number;
  readonly view: DataView;
  readonly #bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array, fileBytes: number) {
    this.#bytes = bytes;
    this.view = viewOf(bytes);
    this.fileBytes = fileBytes;
  }

  /** Returns where the skipped bytes begin. */
  skip(length: number): number {
    const start = this.at;
    const end = start + length;
    if (end > this.fileBytes)
      throw new BrokenGguf("is truncated: its header goes on beyond the end of the file");
    if (end > this.#bytes.length) throw new HeaderGoesOn();
    this.at = end;
    return start;
  }

  take(length: number): Uint8Array {
    return this.since(this.skip(length));
  }

  since(start: number): Uint8Array {
    return this.#bytes.subarray(start, this.at);
  }

  u32(): number {
    return this.view.getUint32(this.skip(4), true);
  }

  /** A 64-bit length; those that no file can have are truncated files, too. */
  length(): number {
    return Number(this.view.getBigUint64(this.skip(8), true));
  }

  count(max: number, what: string): number {
    const count = this.length();
    if (count > max) throw new BrokenGguf(`claims to have ${count} ${what}; at most ${max} are supported`);
    return count;
  }

  text(bytesMax: number): string {
    const length = this.length();
    if (length > bytesMax) throw new BrokenGguf(`has a name of ${length} bytes`);
    try {
      return strictUtf8.decode(this.take(length));
    } catch (error) {
      if (error instanceof TypeError) throw new BrokenGguf("has a name that is not UTF-8");
      throw error;
    }
  }
}
