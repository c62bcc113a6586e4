import { basename } from "node:path";
import type { ChatTemplate } from "../chat-template.ts";
import { chatTemplateCharsMax } from "../jinja.ts";
import { invalidModelFile } from "../../formats/errors.ts";
import { arrayOf, type GgufScalar, scalarOf } from "../../formats/gguf/parse.ts";
import { elementsOf, fileTypeName, tensorTypeName } from "../../formats/gguf/tensor-types.ts";
import { type GgufHeader, readGgufHeader } from "./read.ts";

export interface GgufInfo {
  readonly path: string;
  readonly fileBytes: number;
  readonly architecture: string;
  /** From the file's name, without quantisation: `qwen2.5-7b-instruct`. */
  readonly name: string;
  /** What the file calls itself (`general.name`), else the same. */
  readonly title: string;
  readonly contextTokensTrained: number;
  readonly vocabularySize: number;
  readonly tensorCount: number;
  readonly parameters: bigint;
  /** Type of most weights: Q8_0, F16, … */
  readonly weightType: string;
  /** How the file as a whole was quantised (`general.file_type`): Q4_K_M, …; else the weightType. */
  readonly quantization: string;
  /** Null when the file has none: then only plain prompts work. */
  readonly chatTemplate: ChatTemplate | null;
}

/**
 * Unknown and control, of `tokenizer.ggml.token_type`: what llama.cpp parses only when asked to. User-defined tokens
 * are not among them: it finds those in any text, and templates look for some in messages (`</think>`).
 */
const specialTypes: readonly unknown[] = [2, 3];
/** Files with wrong types are common; llama.cpp treats tokens of such names as control tokens anyway. */
const looksSpecial = /^<(?:[|｜].*[|｜]|(?:start|end)_of_turn|EOT|EOD)>$/s;
const specialIdKey = /^tokenizer\.ggml\.\w+_token_id$/;

/** What a GGUF file says about itself. @throws SkeinError `invalid_model_file` */
export async function inspectGguf(path: string): Promise<GgufInfo> {
  const header = await readGgufHeader(path);
  const { metadata, tensors } = header;
  const architecture = text(scalarOf(metadata.get("general.architecture")));
  const tokens = arrayOf(metadata.get("tokenizer.ggml.tokens"));
  if (architecture === "" || tokens.length === 0) {
    throw invalidModelFile(
      path,
      "names no architecture or has no vocabulary",
      "It may be an adapter or a projector, not a language model. Give the model's own file.",
    );
  }
  const weightType = mostCommonType(header);
  return {
    path,
    fileBytes: header.fileBytes,
    architecture,
    name: nameOf(path),
    title: text(scalarOf(metadata.get("general.name"))) || nameOf(path),
    contextTokensTrained: natural(scalarOf(metadata.get(`${architecture}.context_length`))) ?? 0,
    vocabularySize: tokens.length,
    tensorCount: tensors.length,
    parameters: tensors.reduce((sum, { shape }) => sum + elementsOf(shape), 0n),
    weightType,
    quantization: fileTypeName(natural(scalarOf(metadata.get("general.file_type"))) ?? -1) ?? weightType,
    chatTemplate: chatTemplateOf(header, tokens),
  };
}

/** Clients type the name: no capitals, no spaces, and the same for every quantisation. */
export function nameOf(path: string): string {
  const stem = basename(path)
    .replace(/\.gguf$/i, "")
    .replace(/-\d{5}-of-\d{5}$/, "")
    .replace(/[-._](?:I?Q\d\w*|F16|BF16|F32|MXFP4)$/i, "");
  return stem.toLowerCase().replaceAll(/[^a-z0-9.:_-]+/g, "-") || "model";
}

function chatTemplateOf({ metadata, path }: GgufHeader, tokens: readonly GgufScalar[]): ChatTemplate | null {
  const source = text(scalarOf(metadata.get("tokenizer.chat_template")));
  if (source === "") return null;
  if (source.length > chatTemplateCharsMax) {
    throw invalidModelFile(
      path,
      `has a chat template of ${source.length} characters; at most ${chatTemplateCharsMax} are supported`,
    );
  }
  const idOf = (key: string): number => natural(scalarOf(metadata.get(key))) ?? -1;
  const specialIds = new Set([...metadata.keys()].filter((key) => specialIdKey.test(key)).map(idOf));
  const types = arrayOf(metadata.get("tokenizer.ggml.token_type"));
  const isSpecial = (token: GgufScalar, id: number): boolean =>
    specialTypes.includes(types[id]) || specialIds.has(id) || looksSpecial.test(text(token));
  return {
    source,
    bosToken: text(tokens[idOf("tokenizer.ggml.bos_token_id")]),
    eosToken: text(tokens[idOf("tokenizer.ggml.eos_token_id")]),
    specialTokens: tokens.filter(isSpecial).map(text),
  };
}

function mostCommonType({ tensors }: GgufHeader): string {
  const bytes = new Map<number, number>();
  for (const tensor of tensors) bytes.set(tensor.type, (bytes.get(tensor.type) ?? 0) + tensor.bytes);
  const [most] = [...bytes].toSorted((a, b) => b[1] - a[1]);
  return most === undefined ? "unknown" : tensorTypeName(most[0]);
}

function text(value: GgufScalar | undefined): string {
  return typeof value === "string" ? value : "";
}

function natural(value: GgufScalar | undefined): number | null {
  const number = typeof value === "bigint" ? Number(value) : value;
  return typeof number === "number" && Number.isSafeInteger(number) && number >= 0 ? number : null;
}
