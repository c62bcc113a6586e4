/** Reads the header of a local GGUF file and checks it against the file before anything trusts it. */
import { open, stat } from "node:fs/promises";
import { GGMLQuantizationType, gguf, type GGUFParseOutput, type MetadataValue } from "@huggingface/gguf";
import { SkeinError } from "../../util/errors.ts";

export interface GgufTensor {
  readonly name: string;
  readonly shape: readonly bigint[];
  /** Name of the ggml type: F16, Q8_0, … */
  readonly type: string;
  /** First byte in the file, and number of bytes. */
  readonly start: number;
  readonly bytes: number;
}

export interface GgufHeader {
  readonly path: string;
  readonly fileBytes: number;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly tensors: readonly GgufTensor[];
}

const askForAnother = "Give the path of a complete .gguf file; download it again if it was cut off.";

function invalidFile(path: string, why: string, cause?: unknown): SkeinError {
  return new SkeinError("invalid_model_file", `${path} ${why}.`, { hint: askForAnother, cause });
}

/**
 * @throws SkeinError `invalid_model_file` for anything but a complete, little-endian GGUF file of
 * version 2 or 3.
 */
export async function readGgufHeader(path: string): Promise<GgufHeader> {
  const fileBytes = await sizeOfGguf(path);
  let parsed: GGUFParseOutput;
  try {
    parsed = await gguf(path, { allowLocalFile: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalidFile(path, `has a broken or truncated GGUF header (${reason.slice(0, 200)})`, error);
  }
  if (!parsed.littleEndian) throw invalidFile(path, "is a big-endian GGUF file, which is not supported");
  return {
    path,
    fileBytes,
    metadata: new Map(Object.entries(parsed.metadata as unknown as Record<string, MetadataValue>)),
    tensors: tensorsOf(path, fileBytes, parsed),
  };
}

async function sizeOfGguf(path: string): Promise<number> {
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    const why = error.code === "ENOENT" ? "does not exist" : `cannot be read (${error.code})`;
    throw invalidFile(path, why, error);
  });
  if (info.isDirectory()) throw invalidFile(path, "is a directory, not a GGUF file");
  if (!info.isFile()) throw invalidFile(path, "is not a regular file");
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    throw invalidFile(path, `cannot be opened (${error.code})`, error);
  });
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0);
    if (bytesRead < 8 || buffer.toString("latin1", 0, 4) !== "GGUF") {
      throw invalidFile(path, "is not a GGUF file (it does not begin with GGUF)");
    }
    if (buffer.readUInt32LE(4) === 1) throw invalidFile(path, "has GGUF version 1, which is not supported");
  } finally {
    await file.close();
  }
  return info.size;
}

function tensorsOf(path: string, fileBytes: number, parsed: GGUFParseOutput): GgufTensor[] {
  const sorted = parsed.tensorInfos.toSorted((a, b) => (a.offset < b.offset ? -1 : 1));
  if (sorted.length === 0) throw invalidFile(path, "holds no tensors");
  return sorted.map(({ name, shape, dtype, offset }, i) => {
    const start = parsed.tensorDataOffset + offset;
    const next = sorted[i + 1];
    const end = next === undefined ? BigInt(fileBytes) : parsed.tensorDataOffset + next.offset;
    const elements = shape.reduce((product, size) => product * size, 1n);
    // Types this table does not know yet are taken to fill the space up to the next tensor.
    const bytes = tensorBytes(dtype, elements) ?? end - start;
    if (start + bytes > BigInt(fileBytes)) {
      throw invalidFile(
        path,
        `is truncated: tensor ${name.slice(0, 80)} ends at byte ${start + bytes} of ${fileBytes}`,
      );
    }
    const type = GGMLQuantizationType[dtype] ?? `type-${dtype}`;
    return { name, shape, type, start: Number(start), bytes: Number(bytes) };
  });
}

/** Elements and bytes per block of each ggml type (ggml-common.h of llama.cpp). */
const blockSizes: Readonly<Record<string, readonly [elements: bigint, bytes: bigint]>> = {
  F32: [1n, 4n],
  F16: [1n, 2n],
  BF16: [1n, 2n],
  F64: [1n, 8n],
  I8: [1n, 1n],
  I16: [1n, 2n],
  I32: [1n, 4n],
  I64: [1n, 8n],
  Q4_0: [32n, 18n],
  Q4_1: [32n, 20n],
  Q5_0: [32n, 22n],
  Q5_1: [32n, 24n],
  Q8_0: [32n, 34n],
  Q2_K: [256n, 84n],
  Q3_K: [256n, 110n],
  Q4_K: [256n, 144n],
  Q5_K: [256n, 176n],
  Q6_K: [256n, 210n],
  Q8_K: [256n, 292n],
  IQ1_S: [256n, 50n],
  IQ1_M: [256n, 56n],
  IQ2_XXS: [256n, 66n],
  IQ2_XS: [256n, 74n],
  IQ2_S: [256n, 82n],
  IQ3_XXS: [256n, 98n],
  IQ3_S: [256n, 110n],
  IQ4_NL: [32n, 18n],
  IQ4_XS: [256n, 136n],
  MXFP4: [32n, 17n],
};

function tensorBytes(dtype: number, elements: bigint): bigint | null {
  const sizes = blockSizes[GGMLQuantizationType[dtype] ?? ""];
  return sizes === undefined ? null : (elements / sizes[0]) * sizes[1];
}
