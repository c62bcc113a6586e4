/** What the tests of GGUF files share: the demo model taken apart, and a writer of files. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type GgufValue, parseGguf } from "./parse.ts";

export const tinyModel = join(
  dirname(fileURLToPath(import.meta.url)),
  "..",
  "..",
  "..",
  "models",
  "tiny.Q8_0.gguf",
);
export const tinyBytes: Buffer = readFileSync(tinyModel);

export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
  readonly data: Uint8Array;
}

export interface GgufToWrite {
  readonly metadata: readonly (readonly [key: string, value: GgufValue])[];
  readonly tensors: readonly TensorToWrite[];
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function string(text: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)]);
}

export const stringValue = (text: string): GgufValue => ({ type: 8, bytes: string(text) });
export const f32Value = (value: number): GgufValue => ({
  type: 6,
  bytes: new Uint8Array(Float32Array.of(value).buffer),
});
export const arrayValue = (texts: readonly string[]): GgufValue => ({
  type: 9,
  bytes: Buffer.concat([u32(8), u64(texts.length), ...texts.map(string)]),
});
export const u32Value = (value: number): GgufValue => ({ type: 4, bytes: u32(value) });

export function gguf(tensorCount: number | bigint, keyCount: number | bigint, ...rest: Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.from("GGUF"), u32(3), u64(tensorCount), u64(keyCount), ...rest]);
}

export function entry(key: string, { type, bytes }: GgufValue): Buffer {
  return Buffer.concat([string(key), u32(type), bytes]);
}

export function tensorInfo(name: string, shape: readonly number[], type: number, offset: number): Buffer {
  return Buffer.concat([string(name), u32(shape.length), ...shape.map(u64), u32(type), u64(offset)]);
}

/** A whole file; `alignment` must be what its metadata says. */
export function writeGguf({ metadata, tensors }: GgufToWrite, alignment = 32): Buffer {
  const padded = (bytes: Uint8Array): Buffer =>
    Buffer.concat([bytes, Buffer.alloc((alignment - (bytes.length % alignment)) % alignment)]);
  let offset = 0;
  const infos = tensors.map(({ name, shape, type, data }) => {
    const info = tensorInfo(name, shape, type, offset);
    offset += padded(data).length;
    return info;
  });
  const entries = metadata.map(([key, value]) => entry(key, value));
  const header = padded(gguf(tensors.length, metadata.length, ...entries, ...infos));
  return Buffer.concat([header, ...tensors.map(({ data }) => padded(data))]);
}

/** The demo model, its large tensors shortened, so that writing and hashing it is quick. */
export function smallModel(): GgufToWrite {
  const { metadata, tensors, dataStart } = parseGguf(tinyBytes, tinyBytes.length);
  return {
    metadata: [...metadata],
    tensors: tensors.slice(0, 12).map(({ name, offset }) => ({
      name,
      shape: [32, 3],
      type: 8,
      data: tinyBytes.subarray(dataStart + offset, dataStart + offset + 3 * 34),
    })),
  };
}
