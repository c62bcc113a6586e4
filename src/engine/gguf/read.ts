/** Reads the headers of a local GGUF model and checks them against the files before anything trusts them. */
import { open, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SkeinError } from "../../util/errors.ts";
import { BrokenGguf, type GgufValue, HeaderGoesOn, type ParsedGguf, parseGguf, scalarOf } from "./parse.ts";
import { tensorBytes } from "./tensor-types.ts";

export interface GgufTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Number of the ggml type. */
  readonly type: number;
  readonly path: string;
  /** First byte in the file, and number of bytes. */
  readonly start: number;
  readonly bytes: number;
}

export interface GgufHeader {
  /** The first file, and all files of the model: more than one when it was split. */
  readonly path: string;
  readonly paths: readonly string[];
  readonly fileBytes: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
}

/** Most headers fit the first; the largest vocabularies in use take some 20 MB. */
const headerBytesSteps = [1 << 20, 16 << 20, 128 << 20];
/** llama-gguf-split numbers parts with five digits; models in use have some tens. */
const partsMax = 1_000;
const askForAnother = "Give the path of a complete .gguf file; download it again if it was cut off.";

export function invalidFile(path: string, why: string, hint = askForAnother, cause?: unknown): SkeinError {
  return new SkeinError("invalid_model_file", `${path} ${why}.`, { hint, cause });
}

/**
 * @throws SkeinError `invalid_model_file` for anything but a complete, little-endian GGUF model of
 * version 2 or 3
 */
export async function readGgufHeader(path: string): Promise<GgufHeader> {
  const first = await readPart(path);
  const parts = [first];
  // One by one: each header may take memory.
  for (const other of otherPartsOf(path, first)) parts.push(await readPart(other));
  const tensors = parts.flatMap((part) => part.tensors);
  if (tensors.length === 0) throw invalidFile(path, "holds no tensors");
  if (new Set(tensors.map(({ name }) => name)).size < tensors.length) {
    throw invalidFile(path, "has a tensor in two of its parts");
  }
  return {
    path,
    paths: parts.map((part) => part.path),
    fileBytes: parts.reduce((sum, part) => sum + part.fileBytes, 0),
    metadata: first.metadata,
    tensors,
  };
}

type Part = Omit<GgufHeader, "paths">;

async function readPart(path: string): Promise<Part> {
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    const why = error.code === "ENOENT" ? "does not exist" : `cannot be read (${error.code})`;
    throw invalidFile(path, why, askForAnother, error);
  });
  if (info.isDirectory()) throw invalidFile(path, "is a directory, not a GGUF file");
  if (!info.isFile()) throw invalidFile(path, "is not a regular file");
  try {
    const parsed = await parseFile(path, info.size);
    const tensors = tensorsOf(path, info.size, parsed);
    return { path, fileBytes: info.size, metadata: parsed.metadata, tensors };
  } catch (error) {
    if (error instanceof BrokenGguf) throw invalidFile(path, error.message, askForAnother, error);
    if (error instanceof SkeinError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw invalidFile(path, `cannot be read (${reason})`, askForAnother, error);
  }
}

/** How long a header is only shows while it is read: first a little of the file, then more. */
async function parseFile(path: string, fileBytes: number): Promise<ParsedGguf> {
  const file = await open(path, "r");
  try {
    for (const bytesMax of headerBytesSteps) {
      const length = Math.min(bytesMax, fileBytes);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, 0);
      if (bytesRead < length) throw new BrokenGguf("became shorter while it was read");
      try {
        return parseGguf(buffer, fileBytes);
      } catch (error) {
        if (!(error instanceof HeaderGoesOn)) throw error;
      }
    }
  } finally {
    await file.close();
  }
  throw new BrokenGguf(`has a header of more than ${headerBytesSteps.at(-1)} bytes`);
}

function tensorsOf(path: string, fileBytes: number, { tensors, dataStart }: ParsedGguf): GgufTensor[] {
  const sorted = tensors.toSorted((a, b) => a.offset - b.offset);
  return sorted.map(({ name, shape, type, offset }, i) => {
    const start = dataStart + offset;
    // Types that are newer than the table are taken to fill the space up to the next tensor.
    const next = sorted[i + 1];
    const space = (next === undefined ? fileBytes : dataStart + next.offset) - start;
    const bytes = tensorBytes(type, shape);
    if (bytes === undefined) throw new BrokenGguf(`has rows of broken blocks in tensor ${name.slice(0, 80)}`);
    const end = BigInt(start) + (bytes ?? BigInt(Math.max(0, space)));
    if (end > BigInt(fileBytes)) {
      throw new BrokenGguf(`is truncated: tensor ${name.slice(0, 80)} ends at byte ${end} of ${fileBytes}`);
    }
    return { name, shape, type, path, start, bytes: Number(end) - start };
  });
}

/** Large models come in parts, `name-00001-of-00003.gguf`; the first one has the metadata of all. */
function otherPartsOf(path: string, { metadata }: Part): string[] {
  const count = Number(scalarOf(metadata.get("split.count")) ?? 1);
  if (count <= 1) return [];
  const digits = (number: number): string => String(number).padStart(5, "0");
  const ending = `-${digits(1)}-of-${digits(count)}.gguf`;
  if (Number(scalarOf(metadata.get("split.no"))) !== 0 || !basename(path).endsWith(ending)) {
    throw invalidFile(
      path,
      `is a part of a model in ${count} files`,
      `Give the path of its first part, whose name ends in ${ending}, and keep all parts beside it.`,
    );
  }
  if (!(count <= partsMax))
    throw invalidFile(path, `is a part of a model in ${count} files; at most ${partsMax} are supported`);
  const stem = basename(path).slice(0, -ending.length);
  return Array.from({ length: count - 1 }, (_, i) =>
    join(dirname(path), `${stem}-${digits(i + 2)}-of-${digits(count)}.gguf`),
  );
}
