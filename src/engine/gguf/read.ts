/** Reads the headers of a local GGUF model, which may be in several files. */
import { basename, dirname, join } from "node:path";
import { invalidModelFile } from "../../formats/errors.ts";
import { type GgufPart, type GgufTensor, joinGgufTensors, readGgufPart } from "../../formats/gguf/header.ts";
import { type GgufValue, scalarOf } from "../../formats/gguf/parse.ts";
import { openFileSource } from "../file-source.ts";

export interface GgufHeader {
  /** The first file, and all files of the model: more than one when it was split. */
  readonly path: string;
  readonly paths: readonly string[];
  readonly fileBytes: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** The name of a tensor's source is the path of its file; the source itself is closed. */
  readonly tensors: readonly GgufTensor[];
}

/** llama-gguf-split numbers parts with five digits; models in use have some tens. */
const partsMax = 1_000;
const never = new AbortController().signal;

/**
 * @throws SkeinError `invalid_model_file` for anything but a complete, little-endian GGUF model of
 * version 2 or 3
 */
export async function readGgufHeader(path: string): Promise<GgufHeader> {
  const first = await readPart(path);
  const parts = [first];
  // One by one: each header may take memory.
  for (const other of otherPartsOf(path, first)) parts.push(await readPart(other));
  return {
    path,
    paths: parts.map((part) => part.source.name),
    fileBytes: parts.reduce((sum, part) => sum + part.source.size, 0),
    metadata: first.metadata,
    tensors: joinGgufTensors(parts),
  };
}

async function readPart(path: string): Promise<GgufPart> {
  const source = await openFileSource(path);
  try {
    return await readGgufPart(source, never);
  } finally {
    await source.close();
  }
}

/** Large models come in parts, `name-00001-of-00003.gguf`; the first one has the metadata of all. */
function otherPartsOf(path: string, { metadata }: GgufPart): string[] {
  const count = Number(scalarOf(metadata.get("split.count")) ?? 1);
  if (count <= 1) return [];
  const digits = (number: number): string => String(number).padStart(5, "0");
  const ending = `-${digits(1)}-of-${digits(count)}.gguf`;
  if (Number(scalarOf(metadata.get("split.no"))) !== 0 || !basename(path).endsWith(ending)) {
    throw invalidModelFile(
      path,
      `is a part of a model in ${count} files`,
      `Give the path of its first part, whose name ends in ${ending}, and keep all parts beside it.`,
    );
  }
  if (!(count <= partsMax))
    throw invalidModelFile(path, `is a part of a model in ${count} files; at most ${partsMax} are supported`);
  const stem = basename(path).slice(0, -ending.length);
  return Array.from({ length: count - 1 }, (_, i) =>
    join(dirname(path), `${stem}-${digits(i + 2)}-of-${digits(count)}.gguf`),
  );
}
