/** A GGUF file as what the exact engine converts: decoder and tokenizer. */
import type { ByteSource } from "../../formats/byte-source.ts";
import { readGgufPart } from "../../formats/gguf/header.ts";
import { arrayOf, scalarOf } from "../../formats/gguf/parse.ts";
import { openGgufModel } from "../../formats/gguf/source.ts";
import type { ModelSource } from "../../formats/model-source.ts";
import type { TokenizerData } from "../tokenizer/data.ts";
import { tokenizerFromGguf } from "../tokenizer/from-gguf.ts";

export interface ImportedModel {
  readonly source: ModelSource;
  readonly tokenizer: TokenizerData;
}

/**
 * @param sources the files of the model, the first part first
 * @throws SkeinError `invalid_model_file`, `unsupported_model`, `cancelled`
 */
export async function importGguf(
  sources: readonly ByteSource[],
  signal: AbortSignal,
): Promise<ImportedModel> {
  const source = await openGgufModel(sources, signal);
  const { metadata } = await readGgufPart(sources[0]!, signal);
  const tokenizer = tokenizerFromGguf({
    scalar: (key) => scalarOf(metadata.get(key)),
    array: (key) => arrayOf(metadata.get(key)),
  });
  return { source, tokenizer };
}
