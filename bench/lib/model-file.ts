/** GGUF files as model sources, and changed models written back as GGUF files. */
import { readFile } from "node:fs/promises";
import { memorySource } from "../../src/formats/byte-source.ts";
import { readGgufPart } from "../../src/formats/gguf/header.ts";
import { openGgufModel } from "../../src/formats/gguf/source.ts";
import type { ModelSource } from "../../src/formats/model-source.ts";
import { u32, writeGguf } from "./gguf-writer.ts";
import { decodeWeights, weightFormats, type WeightType } from "./weight-types.ts";

const signal = new AbortController().signal;

/** The whole file stays in memory: what measures it loads all weights anyway. */
export async function openModelFile(path: string): Promise<ModelSource> {
  return openGgufModel([memorySource(path, await readFile(path))], signal);
}

/** Writes `source`, a changed form of the model in `original`, with everything else that file says. */
export async function writeChangedModel(
  path: string,
  original: string,
  source: ModelSource,
  type: WeightType,
): Promise<void> {
  const bytes = await readFile(original);
  const { metadata, tensors } = await readGgufPart(memorySource(original, bytes), signal);
  const kept = new Map(metadata).set("general.file_type", u32(weightFormats[type].fileType));
  kept.delete("general.alignment");
  const factors = tensors.find(({ name }) => name === "rope_freqs.weight");
  const ropeFactors =
    factors === undefined
      ? null
      : [...decodeWeights("F32", bytes.subarray(factors.start, factors.start + factors.bytes))];
  await writeGguf(path, source, type, [...kept], ropeFactors);
}
