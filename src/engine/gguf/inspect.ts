import { basename } from "node:path";
import type { ChatTemplate } from "../chat-template.ts";
import { chatTemplateCharsMax } from "../jinja.ts";
import { SkeinError } from "../../util/errors.ts";
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
  readonly parameters: bigint;
  /** Type of most weights: Q8_0, F16, … */
  readonly weightType: string;
  /** Null when the file has none: then only plain prompts work. */
  readonly chatTemplate: ChatTemplate | null;
}

/** Token types of `tokenizer.ggml.token_type` that are parsed as special (llama.cpp's enum). */
const controlType = 3;
const userDefinedType = 4;

/** What a GGUF file says about itself. @throws SkeinError `invalid_model_file` */
export async function inspectGguf(path: string): Promise<GgufInfo> {
  return describeGguf(await readGgufHeader(path));
}

export function describeGguf(header: GgufHeader): GgufInfo {
  const { metadata, path, tensors } = header;
  const architecture = text(metadata.get("general.architecture"));
  const tokens = list(metadata.get("tokenizer.ggml.tokens"));
  if (architecture === "" || tokens.length === 0) {
    throw new SkeinError("invalid_model_file", `${path} names no architecture or has no vocabulary.`, {
      hint: "It may be an adapter or a projector, not a language model. Give the model's own file.",
    });
  }
  return {
    path,
    fileBytes: header.fileBytes,
    architecture,
    name: nameOf(path),
    title: text(metadata.get("general.name")) || nameOf(path),
    contextTokensTrained: Number(metadata.get(`${architecture}.context_length`) ?? 0),
    vocabularySize: tokens.length,
    parameters: tensors.reduce(
      (sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1n),
      0n,
    ),
    weightType: mostCommonType(header),
    chatTemplate: chatTemplateOf(header, tokens),
  };
}

/** Clients type the name: no capitals, no spaces, and the same for every quantisation. */
export function nameOf(path: string): string {
  const stem = basename(path)
    .replace(/\.gguf$/i, "")
    .replace(/[-._](?:I?Q\d\w*|F16|BF16|F32|MXFP4)$/i, "");
  return stem.toLowerCase().replaceAll(/[^a-z0-9.:_-]+/g, "-") || "model";
}

function chatTemplateOf({ metadata, path }: GgufHeader, tokens: readonly unknown[]): ChatTemplate | null {
  const source = text(metadata.get("tokenizer.chat_template"));
  if (source === "") return null;
  if (source.length > chatTemplateCharsMax) {
    throw new SkeinError("invalid_model_file", `${path} has a chat template of ${source.length} characters.`);
  }
  const types = list(metadata.get("tokenizer.ggml.token_type"));
  const token = (key: string): string => {
    const id = metadata.get(`tokenizer.ggml.${key}`);
    return id === undefined ? "" : text(tokens[Number(id)]);
  };
  return {
    source,
    bosToken: token("bos_token_id"),
    eosToken: token("eos_token_id"),
    specialTokens: tokens.flatMap((value, i) =>
      types[i] === controlType || types[i] === userDefinedType ? [text(value)] : [],
    ),
  };
}

function mostCommonType({ tensors }: GgufHeader): string {
  const bytes = new Map<string, number>();
  for (const tensor of tensors) bytes.set(tensor.type, (bytes.get(tensor.type) ?? 0) + tensor.bytes);
  return [...bytes].toSorted((a, b) => b[1] - a[1])[0]?.[0] ?? "unknown";
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
