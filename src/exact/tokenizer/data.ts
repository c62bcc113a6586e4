/** What a tokenizer is made of: plain data, the same shape from GGUF and from Hugging Face files. */
import { SkeinError } from "../../util/errors.ts";
import type { PreTokenizer } from "./pre-tokenizers.ts";

export interface TokenizerData {
  /** `gpt2` is byte-level BPE, `llama` is SentencePiece's BPE: GGUF's names. */
  readonly model: "gpt2" | "llama";
  /** How `gpt2` cuts text into words; null for `llama`, which does not. */
  readonly pre: PreTokenizer | null;
  readonly tokens: readonly string[];
  /** A number of `tokenTypes` for each token. */
  readonly types: Uint8Array;
  /** What `llama` merges first; null when the order of `merges` says so. */
  readonly scores: Float32Array | null;
  /** Pairs as `left right`, those to merge first in front. */
  readonly merges: readonly string[];
  /** A word that is a token as a whole is taken as it is, however its merges would go. */
  readonly ignoreMerges: boolean;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly unkId: number | null;
  readonly padId: number | null;
  /** Tokens that end an answer, beside `eosId` and those known by their text. */
  readonly endIds: readonly number[];
  /** Tokens of "fill in the middle" that the file names; the others are known by their text. */
  readonly fillInMiddleIds: Readonly<Partial<Record<FillInMiddle, number>>>;
  readonly addBos: boolean;
  /** `llama` reads text as if a space stood before it. */
  readonly addSpacePrefix: boolean;
}

export type FillInMiddle = "prefix" | "suffix" | "middle" | "pad" | "repository" | "separator";

/** Numbers of GGUF's `tokenizer.ggml.token_type`. */
export const tokenTypes = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

export function brokenTokenizer(why: string): SkeinError {
  return new SkeinError("invalid_model_file", `The model's tokenizer ${why}.`, {
    hint: "The file may be damaged or badly converted; download it again or use another one.",
  });
}

export function unsupportedTokenizer(what: string, supported: readonly string[]): SkeinError {
  return new SkeinError(
    "unsupported_model",
    `The exact engine does not support ${what}; it supports ${supported.join(", ")}.`,
    { hint: "Serve this model with the llama engine." },
  );
}
