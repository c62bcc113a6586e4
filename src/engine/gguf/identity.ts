/**
 * Model identity of GGUF files. `gguf-sha256:` and the SHA-256 of this map in canonical CBOR (RFC 8949, 4.2.1):
 *
 *     { version: 1, architecture, hyperparameters, tokenizer, template, weights }
 *
 * - architecture: the text of `general.architecture`
 * - hyperparameters: SHA-256 of CBOR [[key, type, bytes], …] of all `<architecture>.*` keys, sorted by key;
 *   type and bytes are those of the value in the file
 * - tokenizer: the same of all `tokenizer.*` keys except chat templates
 * - template: SHA-256 of the UTF-8 bytes of `tokenizer.chat_template` (of nothing when absent)
 * - weights: SHA-256 of CBOR [[name, type, [dimensions…], dataRoot], …] of all tensors, sorted by name; type is
 *   ggml's number. dataRoot is the Merkle tree hash of RFC 6962, section 2.1, whose leaves are the tensor's bytes
 *   in chunks of 8 MiB; the last one may be shorter.
 *
 * Sorted means by UTF-16 code units. File name, other metadata, order and padding of tensors, and whether the model
 * was split into several files do not matter.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { encode, rfc8949EncodeOptions } from "cborg";
import { throwIfAborted } from "../../util/abort.ts";
import { invalidModelFile } from "../../formats/errors.ts";
import type { GgufTensor } from "../../formats/gguf/header.ts";
import { scalarOf } from "../../formats/gguf/parse.ts";
import { stateOfFiles } from "../file-state.ts";
import { type GgufHeader, readGgufHeader } from "./read.ts";

const manifestVersion = 1;
/** Large enough that hashing dominates, small enough that a step blocks only for some milliseconds. */
const chunkBytes: number = 8 * 1024 * 1024;

export interface IdentityOptions {
  /** Folder where results are kept by path, size and time of change; null: none. */
  readonly cacheFolder: string | null;
  readonly signal: AbortSignal;
  readonly onProgress?: (hashedBytes: number, totalBytes: number) => void;
}

/** @throws SkeinError `invalid_model_file`, `cancelled` */
export async function modelIdOfGguf(path: string, options: IdentityOptions): Promise<string> {
  throwIfAborted(options.signal);
  const header = await readGgufHeader(path);
  const state = await stateOfFiles(header.paths, manifestVersion);
  const cacheFile = options.cacheFolder === null ? null : join(options.cacheFolder, `${state}.id`);
  if (cacheFile !== null) {
    const cached = await readFile(cacheFile, "utf8").catch(() => "");
    if (/^gguf-sha256:[0-9a-f]{64}$/.test(cached)) return cached;
  }
  const modelId = `gguf-sha256:${sha256(await manifestOf(header, options)).toString("hex")}`;
  if ((await stateOfFiles(header.paths, manifestVersion)) !== state)
    throw invalidModelFile(path, "changed while it was read");
  // Without the cache the next start is slower, nothing else.
  if (cacheFile !== null) await writeAtomically(cacheFile, modelId).catch(() => undefined);
  return modelId;
}

async function manifestOf(header: GgufHeader, options: IdentityOptions): Promise<Uint8Array> {
  const architecture = String(scalarOf(header.metadata.get("general.architecture")) ?? "");
  const isTemplate = (key: string): boolean => key.startsWith("tokenizer.chat_template");
  const template = header.metadata.get("tokenizer.chat_template");
  return canonical({
    version: manifestVersion,
    architecture,
    hyperparameters: hashOfKeys(header, (key) => key.startsWith(`${architecture}.`)),
    tokenizer: hashOfKeys(header, (key) => key.startsWith("tokenizer.") && !isTemplate(key)),
    template: sha256(Buffer.from(String(scalarOf(template) ?? ""))),
    weights: await hashOfWeights(header, options),
  });
}

function hashOfKeys({ metadata }: GgufHeader, wanted: (key: string) => boolean): Buffer {
  const rows = [...metadata]
    .filter(([key]) => wanted(key))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, { type, bytes }]) => [key, type, bytes]);
  return sha256(canonical(rows));
}

async function hashOfWeights({ tensors }: GgufHeader, options: IdentityOptions): Promise<Buffer> {
  const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const buffer = Buffer.alloc(chunkBytes);
  const rows: unknown[] = [];
  let hashed = 0;
  for (const tensor of tensors.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const root = await rootOfTensor(tensor, buffer, (bytes) => {
      throwIfAborted(options.signal);
      hashed += bytes;
      options.onProgress?.(hashed, total);
    });
    rows.push([tensor.name, tensor.type, tensor.shape, root]);
  }
  return sha256(canonical(rows));
}

async function rootOfTensor(
  { source: { name: path }, start, bytes }: GgufTensor,
  buffer: Buffer,
  onChunk: (bytes: number) => void,
): Promise<Buffer> {
  const leaves: Buffer[] = [];
  const file = await open(path, "r");
  try {
    for (let offset = 0; offset < bytes; offset += chunkBytes) {
      const length = Math.min(chunkBytes, bytes - offset);
      const { bytesRead } = await file.read(buffer, 0, length, start + offset);
      if (bytesRead !== length) throw invalidModelFile(path, "became shorter while it was read");
      leaves.push(sha256(Buffer.of(0x00), buffer.subarray(0, length)));
      onChunk(length);
    }
  } finally {
    await file.close();
  }
  return merkleRoot(leaves);
}

/** Merkle tree hash of RFC 6962, section 2.1, over hashes of leaves. */
export function merkleRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0]!;
  const split = 2 ** (Math.ceil(Math.log2(leaves.length)) - 1);
  return sha256(Buffer.of(0x01), merkleRoot(leaves.slice(0, split)), merkleRoot(leaves.slice(split)));
}

function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function canonical(value: unknown): Uint8Array {
  return encode(value, rfc8949EncodeOptions);
}

async function writeAtomically(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${randomUUID()}`;
  await writeFile(temporary, text, { mode: 0o600 });
  await rename(temporary, file);
}
