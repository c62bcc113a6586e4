/** Reads the headers of a GGUF model and checks them against the files before anything trusts them. */
import { SkeinError } from "../../util/errors.ts";
import type { ByteSource } from "../byte-source.ts";
import { invalidModelFile } from "../errors.ts";
import { BrokenGguf, type GgufValue, HeaderGoesOn, type ParsedGguf, parseGguf } from "./parse.ts";
import { tensorBytes } from "./tensor-types.ts";

export interface GgufTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Number of the ggml type. */
  readonly type: number;
  readonly source: ByteSource;
  /** First byte in the source, and number of bytes. */
  readonly start: number;
  readonly bytes: number;
}

/** What one file says; a model may be split into several. */
export interface GgufPart {
  readonly source: ByteSource;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
}

/** Most headers fit the first; the largest vocabularies in use take some 20 MB. */
const headerBytesSteps = [1 << 20, 16 << 20, 128 << 20];

/** @throws SkeinError `invalid_model_file` for anything but a complete, little-endian GGUF file of version 2 or 3 */
export async function readGgufPart(source: ByteSource, signal: AbortSignal): Promise<GgufPart> {
  try {
    const parsed = await parseSource(source, signal);
    return { source, metadata: parsed.metadata, tensors: tensorsOf(source, parsed) };
  } catch (error) {
    if (error instanceof SkeinError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const why = error instanceof BrokenGguf ? reason : `cannot be read (${reason})`;
    throw invalidModelFile(source.name, why, undefined, error);
  }
}

/** All tensors of a model. @throws SkeinError `invalid_model_file` when it has none, or one of them twice */
export function joinGgufTensors(parts: readonly GgufPart[]): GgufTensor[] {
  const name = parts[0]?.source.name ?? "The model";
  const tensors = parts.flatMap((part) => part.tensors);
  if (tensors.length === 0) throw invalidModelFile(name, "holds no tensors");
  if (new Set(tensors.map((tensor) => tensor.name)).size < tensors.length) {
    throw invalidModelFile(name, "has a tensor in two of its parts");
  }
  return tensors;
}

/** How long a header is only shows while it is read: first a little of the file, then more. */
async function parseSource(source: ByteSource, signal: AbortSignal): Promise<ParsedGguf> {
  for (const bytesMax of headerBytesSteps) {
    const bytes = await source.read(0, Math.min(bytesMax, source.size), signal);
    try {
      return parseGguf(bytes, source.size);
    } catch (error) {
      if (!(error instanceof HeaderGoesOn)) throw error;
    }
  }
  throw new BrokenGguf(`has a header of more than ${headerBytesSteps.at(-1)} bytes`);
}

function tensorsOf(source: ByteSource, { tensors, dataStart }: ParsedGguf): GgufTensor[] {
  const sorted = tensors.toSorted((a, b) => a.offset - b.offset);
  return sorted.map(({ name, shape, type, offset }, i) => {
    const start = dataStart + offset;
    // Types that are newer than the table are taken to fill the space up to the next tensor.
    const next = sorted[i + 1];
    const space = (next === undefined ? source.size : dataStart + next.offset) - start;
    const bytes = tensorBytes(type, shape);
    if (bytes === undefined) throw new BrokenGguf(`has rows of broken blocks in tensor ${name.slice(0, 80)}`);
    const end = BigInt(start) + (bytes ?? BigInt(Math.max(0, space)));
    if (end > BigInt(source.size)) {
      throw new BrokenGguf(`is truncated: tensor ${name.slice(0, 80)} ends at byte ${end} of ${source.size}`);
    }
    return { name, shape, type, source, start, bytes: Number(end) - start };
  });
}
