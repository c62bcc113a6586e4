/**
 * The header of a safetensors file (huggingface/safetensors, README "Format"), strictly: the tensors fill the file
 * without gaps and without overlaps.
 */
import { z } from "zod";
import type { FoundTensor } from "../bound-model.ts";
import type { ByteSource } from "../byte-source.ts";
import { invalidModelFile, shown, unsupportedModel } from "../errors.ts";
import { readJson } from "./read-json.ts";

/** What the reference implementation allows. */
const headerBytesMax = 100_000_000;
/** Ten times what the largest models have, with their values in the header. */
const headerLimits = { depthMax: 3, valuesMax: 1_000_000 };
const dimensionsMax = 8;
const lengthBytes = 8;

/** Bits, because some types are smaller than a byte. */
const bitsOf = new Map<string, bigint>([
  ...["F4"].map((type) => [type, 4n] as const),
  ...["F6_E2M3", "F6_E3M2"].map((type) => [type, 6n] as const),
  ...["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"].map((type) => [type, 8n] as const),
  ...["U16", "I16", "F16", "BF16"].map((type) => [type, 16n] as const),
  ...["U32", "I32", "F32"].map((type) => [type, 32n] as const),
  ...["U64", "I64", "F64", "C64"].map((type) => [type, 64n] as const),
]);

const natural = z.int().min(0);
const entrySchema = z.strictObject({
  dtype: z.string(),
  shape: z.array(natural).max(dimensionsMax),
  data_offsets: z.tuple([natural, natural]),
});
const headerSchema = z.record(z.string(), z.unknown());
const notesSchema = z.record(z.string(), z.string());

interface Placed extends FoundTensor {
  readonly end: number;
}

/** @throws SkeinError `invalid_model_file`, `unsupported_model`, `cancelled` */
export async function readSafetensors(source: ByteSource, signal: AbortSignal): Promise<FoundTensor[]> {
  const { name, size } = source;
  if (size < lengthBytes) throw invalidModelFile(name, "is not a safetensors file (it is too short)");
  const prefix = await source.read(0, lengthBytes, signal);
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, lengthBytes).getBigUint64(0, true));
  if (length > headerBytesMax || lengthBytes + length > size) {
    throw invalidModelFile(name, `is not a safetensors file, or truncated: its header has ${length} bytes`);
  }
  const json = await readJson(source, lengthBytes, length, headerLimits, signal);
  const header = headerSchema.safeParse(json);
  if (!header.success || Array.isArray(json)) throw invalidModelFile(name, "has a header that is no object");
  const { __metadata__: notes, ...entries } = header.data;
  if (notes !== undefined && !notesSchema.safeParse(notes).success) {
    throw invalidModelFile(name, "has metadata that are not texts");
  }
  const dataStart = lengthBytes + length;
  const tensors = Object.entries(entries).map(([tensor, entry]) =>
    placedOf(source, dataStart, tensor, entry),
  );
  checkPlaces(source, dataStart, tensors);
  return tensors;
}

function placedOf(source: ByteSource, dataStart: number, name: string, entry: unknown): Placed {
  const parsed = entrySchema.safeParse(entry);
  if (!parsed.success)
    throw invalidModelFile(source.name, `has a broken entry for the tensor ${shown(name)}`);
  const { dtype, shape, data_offsets: offsets } = parsed.data;
  const bits = bitsOf.get(dtype);
  if (bits === undefined) {
    throw unsupportedModel(
      source.name,
      `stores the tensor ${shown(name)} as ${shown(dtype)}`,
      "Use the model's file in F16, BF16 or F32.",
    );
  }
  const elements = shape.reduce((product, length) => product * BigInt(length), 1n);
  if (elements * bits !== 8n * (BigInt(offsets[1]) - BigInt(offsets[0]))) {
    throw invalidModelFile(source.name, `has a tensor ${shown(name)} whose shape and place do not agree`);
  }
  const [start, end] = [dataStart + offsets[0], dataStart + offsets[1]];
  return { name, typeName: dtype, extent: shape, source, start, end };
}

function checkPlaces({ name, size }: ByteSource, dataStart: number, tensors: readonly Placed[]): void {
  let end = dataStart;
  for (const tensor of tensors.toSorted((a, b) => a.start - b.start || a.end - b.end)) {
    if (tensor.start !== end) {
      const what = tensor.start < end ? "an overlap" : "a gap";
      throw invalidModelFile(name, `has ${what} before the tensor ${shown(tensor.name)}`);
    }
    end = tensor.end;
  }
  if (end > size) throw invalidModelFile(name, `is truncated: its tensors end at byte ${end} of ${size}`);
  if (end < size)
    throw invalidModelFile(name, `goes on after its tensors, which end at byte ${end} of ${size}`);
}
