/** Converted models for tests, written from models in memory. */
import { createHash } from "node:crypto";
import { concatBytes } from "../../util/bytes.ts";
import type { Sha256 } from "../commitment/commitment.ts";
import { manifestOf, tokenizerBytes } from "../model/manifest.ts";
import type { ExactModel, ExactShape, Quantization } from "../model/model.ts";
import type { ModelSink } from "../model/sink.ts";
import { bytesOfMatrix, bytesOfNorm } from "../model/weight-bytes.ts";
import { weightRoot } from "../model/weight-root.ts";
import { giveModel } from "../random-model.suite.ts";
import type { TokenizerData } from "../tokenizer/data.ts";
import { headerBytes, layout } from "./container.ts";

export const sha256: Sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

export interface ContainerParts {
  /** Default: int8-row. */
  readonly quantization?: Quantization;
  readonly shape: ExactShape;
  readonly name: string;
  readonly tokenizer: TokenizerData;
  /** Default: those of the tokenizer. */
  readonly tokenizerBytes?: Uint8Array;
  readonly chatTemplate: string | null;
  /** Bytes of every tensor in canonical order. */
  readonly tensors: readonly Uint8Array[];
}

export async function tensorBytesOf(model: ExactModel): Promise<Uint8Array[]> {
  const tensors: Uint8Array[] = [];
  const sink: ModelSink = {
    norm: (_, weights) => void tensors.push(concatBytes(bytesOfNorm(weights))),
    matrix: (_, matrix) => void tensors.push(concatBytes(bytesOfMatrix(matrix))),
  };
  await giveModel(model, sink);
  return tensors;
}

/** A file that is true to itself, whatever its parts are. */
export function containerOf(parts: ContainerParts): Uint8Array {
  const { quantization = "int8-row", shape, name, tokenizer, chatTemplate, tensors } = parts;
  const tensorRoots = tensors.map((bytes) => weightRoot(sha256, [bytes]));
  const given = {
    tokenizerBytes: parts.tokenizerBytes ?? tokenizerBytes(tokenizer),
    chatTemplate,
    tensorRoots,
  };
  const manifest = manifestOf(sha256, { ...given, quantization, shape });
  const header = headerBytes({ ...given, name, manifest });
  const { offsets, fileBytes } = layout(shape, quantization, header.length);
  const file = new Uint8Array(fileBytes);
  file.set(header);
  for (const [i, bytes] of tensors.entries()) {
    const at = offsets[i];
    if (at !== undefined) file.set(bytes.subarray(0, Math.max(0, fileBytes - at)), at);
  }
  return file;
}

/** Bytes as tokens, as every vocabulary of `model` has them at least, up to `count` tokens. */
export function smallTokenizer(model: TokenizerData["model"], count: number): TokenizerData {
  const isBytes = model === "llama";
  const texts = isBytes
    ? ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a"]
    : ["a", "b", "ab", "Ġ", "Ġa", "<|im_start|>", "<|im_end|>", "c"];
  const tokens = texts.slice(0, count);
  return {
    model,
    pre: isBytes ? null : "qwen2",
    tokens,
    types: Uint8Array.from(tokens, (text) => (text.startsWith("<") ? 3 : 1)),
    scores: isBytes ? Float32Array.from(tokens, (_, i) => -i) : null,
    merges: isBytes ? [] : ["a b", "Ġ a"],
    ignoreMerges: false,
    bosId: isBytes ? 1 : null,
    eosId: isBytes ? 2 : 6,
    unkId: isBytes ? 0 : null,
    padId: null,
    endIds: [],
    fillInMiddleIds: {},
    addBos: isBytes,
    addSpacePrefix: isBytes,
  };
}
