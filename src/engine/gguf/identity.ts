/**
 * Model identity of a GGUF file. `gguf-sha256:` and the SHA-256 of this canonical CBOR map:
 *
 *     { version: 1, architecture, hyperparameters, tokenizer, template, weights }
 *
 * - hyperparameters: SHA-256 of CBOR [[key, value], …] of all `<architecture>.*` keys, sorted
 * - tokenizer: the same of all `tokenizer.*` keys except chat templates
 * - template: SHA-256 of the UTF-8 bytes of `tokenizer.chat_template` (of nothing when absent)
 * - weights: SHA-256 of CBOR [[name, type, [dimensions…], dataRoot], …] of all tensors, sorted by name;
 *   dataRoot is the RFC 6962 Merkle root over 8 MiB chunks of the tensor's bytes.
 *
 * File name, `general.*` metadata, the order and padding of tensors do not matter.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { encode, rfc8949EncodeOptions } from "cborg";
import { throwIfAborted } from "../admission.ts";
import { type GgufHeader, type GgufTensor, readGgufHeader } from "./read.ts";

/** Large enough that hashing dominates, small enough that a step does not block for long. */
export const chunkBytes: number = 8 * 1024 * 1024;

export interface IdentityOptions {
  /** Folder where results are kept by path, size and time of change; null: none. */
  readonly cacheFolder: string | null;
  readonly signal: AbortSignal;
  readonly onProgress?: (hashedBytes: number, totalBytes: number) => void;
}

/** @throws SkeinError `invalid_model_file`, `cancelled` */
export async function modelIdOfGguf(path: string, options: IdentityOptions): Promise<string> {
  const header = await readGgufHeader(path);
  const cacheFile = await cacheFileOf(path, options.cacheFolder);
  if (cacheFile !== null) {
    const cached = await readFile(cacheFile, "utf8").catch(() => "");
    if (/^gguf-sha256:[0-9a-f]{64}$/.test(cached)) return cached;
  }
  const modelId = `gguf-sha256:${sha256(await manifestOf(header, options)).toString("hex")}`;
  if (cacheFile !== null) await writeAtomically(cacheFile, modelId);
  return modelId;
}

async function manifestOf(header: GgufHeader, options: IdentityOptions): Promise<Uint8Array> {
  const architecture = String(header.metadata.get("general.architecture"));
  const isTemplate = (key: string): boolean => key.startsWith("tokenizer.chat_template");
  const template = header.metadata.get("tokenizer.chat_template");
  return canonical({
    version: 1,
    architecture,
    hyperparameters: hashOfKeys(header, (key) => key.startsWith(`${architecture}.`)),
    tokenizer: hashOfKeys(header, (key) => key.startsWith("tokenizer.") && !isTemplate(key)),
    template: sha256(Buffer.from(typeof template === "string" ? template : "")),
    weights: await hashOfWeights(header, options),
  });
}

function hashOfKeys({ metadata }: GgufHeader, wanted: (key: string) => boolean): Buffer {
  const pairs = [...metadata].filter(([key]) => wanted(key)).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return sha256(canonical(pairs));
}

async function hashOfWeights(header: GgufHeader, options: IdentityOptions): Promise<Buffer> {
  const total = header.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const file = await open(header.path, "r");
  let hashed = 0;
  try {
    const rows: unknown[] = [];
    const buffer = Buffer.alloc(chunkBytes);
    for (const tensor of header.tensors.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      const root = await merkleRootOf(tensor, async (start, length) => {
        throwIfAborted(options.signal);
        const { bytesRead } = await file.read(buffer, 0, length, start);
        if (bytesRead !== length) throw new Error(`${header.path} became shorter while it was read`);
        hashed += length;
        options.onProgress?.(hashed, total);
        return buffer.subarray(0, length);
      });
      rows.push([tensor.name, tensor.type, tensor.shape, root]);
    }
    return sha256(canonical(rows));
  } finally {
    await file.close();
  }
}

async function merkleRootOf(
  tensor: GgufTensor,
  read: (start: number, length: number) => Promise<Uint8Array>,
): Promise<Buffer> {
  const leaves: Buffer[] = [];
  for (let offset = 0; offset < tensor.bytes; offset += chunkBytes) {
    const length = Math.min(chunkBytes, tensor.bytes - offset);
    leaves.push(sha256(Buffer.of(0x00), await read(tensor.start + offset, length)));
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

async function cacheFileOf(path: string, folder: string | null): Promise<string | null> {
  if (folder === null) return null;
  const { size, mtimeMs, ino, dev } = await stat(path, { bigint: false });
  const key = sha256(Buffer.from(JSON.stringify([path, size, mtimeMs, ino, dev]))).toString("hex");
  return join(folder, `${key.slice(0, 32)}.id`);
}

async function writeAtomically(file: string, text: string): Promise<void> {
  await mkdir(join(file, ".."), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${randomUUID()}`;
  await writeFile(temporary, text, { mode: 0o600 });
  await rename(temporary, file);
}
