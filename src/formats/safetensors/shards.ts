import { z } from "zod";
import type { FoundTensor } from "../bound-model.ts";
import type { ByteSource } from "../byte-source.ts";
import { invalidModelFile, shown } from "../errors.ts";
import { readSafetensors } from "./header.ts";
import { readJson } from "./read-json.ts";

/** Some of the largest models have 5 MB. */
const indexBytesMax = 64 << 20;
const indexLimits = { depthMax: 8, valuesMax: 1_000_000 };

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/**
 * The tensors of all shards.
 * @param index `model.safetensors.index.json`; null for a model in one file
 * @throws SkeinError `invalid_model_file`, `unsupported_model`, `cancelled`
 */
export async function readShards(
  shards: readonly ByteSource[],
  index: ByteSource | null,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, FoundTensor>> {
  const tensors = new Map<string, FoundTensor>();
  // One by one: each header may take memory.
  for (const shard of shards) {
    for (const tensor of await readSafetensors(shard, signal)) {
      if (tensors.has(tensor.name)) {
        throw invalidModelFile(shard.name, `has the tensor ${shown(tensor.name)} of another shard`);
      }
      tensors.set(tensor.name, tensor);
    }
  }
  if (index !== null) await checkIndex(index, tensors, signal);
  return tensors;
}

/** Index and shards say the same, so that none is missing or of another model. */
async function checkIndex(
  index: ByteSource,
  tensors: ReadonlyMap<string, FoundTensor>,
  signal: AbortSignal,
): Promise<void> {
  if (index.size > indexBytesMax) throw invalidModelFile(index.name, `has ${index.size} bytes`);
  const json = await readJson(index, 0, index.size, indexLimits, signal);
  const parsed = indexSchema.safeParse(json);
  if (!parsed.success) throw invalidModelFile(index.name, "has no weight_map from tensors to files");
  const places = new Map(Object.entries(parsed.data.weight_map));
  for (const [tensor, file] of places) {
    const found = tensors.get(tensor);
    if (found === undefined || baseName(found.source.name) !== file) {
      throw invalidModelFile(
        index.name,
        `says that the tensor ${shown(tensor)} is in ${shown(file)}, where it is not`,
        "Give all files of the model that the index names.",
      );
    }
  }
  for (const tensor of tensors.keys()) {
    if (!places.has(tensor)) throw invalidModelFile(index.name, `lacks the tensor ${shown(tensor)}`);
  }
}

function baseName(path: string): string {
  return path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
}
