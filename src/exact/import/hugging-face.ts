/** A model as Hugging Face's transformers keeps it, as what the exact engine converts: decoder and tokenizer. */
import type { ByteSource } from "../../formats/byte-source.ts";
import { invalidModelFile } from "../../formats/errors.ts";
import type { JsonLimits, JsonValue } from "../../formats/json.ts";
import { readJson } from "../../formats/safetensors/read-json.ts";
import { openSafetensorsModel } from "../../formats/safetensors/source.ts";
import { tokenizerFromHuggingFace } from "../tokenizer/from-hugging-face.ts";
import { field, listOf } from "../tokenizer/json.ts";
import type { ImportedModel } from "./gguf.ts";

/** The files of a model by their names in its folder. */
export type HuggingFaceFiles = ReadonlyMap<string, ByteSource>;

const indexName = "model.safetensors.index.json";
const shardName = /^model(?:-\d{5}-of-\d{5})?\.safetensors$/;
const textNames: readonly string[] = [
  "config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "generation_config.json",
  "chat_template.jinja",
  indexName,
];

/** The largest vocabularies take some 35 MB, most of it merges. */
const jsonBytesMax: number = 128 * 2 ** 20;
const jsonLimits: JsonLimits = { depthMax: 64, valuesMax: 8_000_000 };

/** Whether a file of a folder is one that is read. */
export function isHuggingFaceFile(name: string): boolean {
  return textNames.includes(name) || shardName.test(name);
}

/** @throws SkeinError `invalid_model_file`, `unsupported_model`, `cancelled` */
export async function importHuggingFace(
  folder: string,
  files: HuggingFaceFiles,
  signal: AbortSignal,
): Promise<ImportedModel> {
  // 1. The tokenizer's files, and what else is said in words.
  const json = async (name: string): Promise<JsonValue | undefined> => {
    const source = files.get(name);
    if (source === undefined) return undefined;
    if (source.size > jsonBytesMax) throw invalidModelFile(source.name, `has ${source.size} bytes`);
    return readJson(source, 0, source.size, jsonLimits, signal);
  };
  const config = requireFile(folder, files, "config.json");
  requireFile(folder, files, "tokenizer.json");
  const tokenizerConfig = await json("tokenizer_config.json");
  // 2. The weights.
  const index = files.get(indexName);
  const shards = shardsOf(folder, files, index !== undefined);
  const chatTemplate = (await templateFile(files, signal)) ?? templateOf(tokenizerConfig);
  const source = await openSafetensorsModel(
    {
      config,
      shards,
      ...(index === undefined ? {} : { index }),
      ...(chatTemplate === null ? {} : { chatTemplate }),
    },
    signal,
  );
  // 3. The tokenizer, which has a token for every row of the embedding.
  const tokenizer = tokenizerFromHuggingFace({
    tokenizer: await json("tokenizer.json"),
    config: tokenizerConfig,
    generation: await json("generation_config.json"),
    vocabularySize: source.shape.vocabularySize,
  });
  return { source, tokenizer };
}

function requireFile(folder: string, files: HuggingFaceFiles, name: string): ByteSource {
  const source = files.get(name);
  if (source !== undefined) return source;
  throw invalidModelFile(
    folder,
    `has no ${name}`,
    "Download the model's whole folder from Hugging Face, or give a GGUF file.",
  );
}

/** With an index those in parts, even where another program left a joined file beside them. */
function shardsOf(folder: string, files: HuggingFaceFiles, hasIndex: boolean): ByteSource[] {
  const single = "model.safetensors";
  const names = [...files.keys()].filter((name) => shardName.test(name)).toSorted();
  const parts = names.filter((name) => name !== single);
  if (hasIndex && parts.length > 0) return parts.map((name) => files.get(name)!);
  return [requireFile(folder, files, single)];
}

async function templateFile(files: HuggingFaceFiles, signal: AbortSignal): Promise<string | null> {
  const source = files.get("chat_template.jinja");
  if (source === undefined) return null;
  if (source.size > jsonBytesMax) throw invalidModelFile(source.name, `has ${source.size} bytes`);
  return new TextDecoder().decode(await source.read(0, source.size, signal));
}

/** One template, or several with names. */
function templateOf(config: unknown): string | null {
  const given = field(config, "chat_template");
  if (typeof given === "string") return given;
  const usual = listOf(given).find((one) => field(one, "name") === "default");
  const template = field(usual, "template");
  return typeof template === "string" ? template : null;
}
