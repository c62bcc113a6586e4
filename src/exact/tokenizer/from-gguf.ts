/** The tokenizer that a GGUF file describes (`tokenizer.ggml.*`). */
import {
  brokenTokenizer,
  type FillInMiddle,
  type TokenizerData,
  tokenTypes,
  unsupportedTokenizer,
} from "./data.ts";
import { checkTokenizer } from "./limits.ts";
import { type PreTokenizer, preTokenizers } from "./pre-tokenizers.ts";

type Scalar = string | number | bigint | boolean;

/** Values of the file's metadata by key; no value is undefined, no array is empty. */
export interface GgufMetadata {
  scalar(key: string): Scalar | undefined;
  array(key: string): readonly Scalar[];
}

interface Kind {
  readonly pre: PreTokenizer;
  readonly ignoreMerges?: true;
  readonly addBos?: true;
}

const llama3: Kind = { pre: "llama-bpe", ignoreMerges: true, addBos: true };

/** Names of `tokenizer.ggml.pre` as llama.cpp understands them (llama-vocab.cpp, MIT). */
const kinds: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ...preTokenizers.map((pre): [string, Kind] => [pre, { pre }]),
  ...names("llama-bpe llama3 llama-v3 falcon3 pixtral midm-2.0 lfm2", llama3),
  ...names("dbrx smaug-bpe", { pre: "llama-bpe" }),
  ...names("tekken", { pre: "tekken", ignoreMerges: true, addBos: true }),
  ...names("deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan grok-2", { pre: "qwen2" }),
  ...names("phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling", { pre: "gpt-2" }),
  ...names("starcoder refact command-r codeshell exaone minerva-7b mellum2", { pre: "smollm" }),
]);

function names(list: string, kind: Kind): [string, Kind][] {
  return list.split(" ").map((name) => [name, kind]);
}

/** @throws SkeinError `invalid_model_file`, `unsupported_model` */
export function tokenizerFromGguf(metadata: GgufMetadata): TokenizerData {
  const get = (key: string): Scalar | undefined => metadata.scalar(`tokenizer.ggml.${key}`);
  const model = get("model");
  if (model !== "gpt2" && model !== "llama") {
    throw unsupportedTokenizer(`tokenizers of the kind ${shown(model)}`, ["gpt2", "llama"]);
  }
  const kind = model === "gpt2" ? kindOf(get("pre")) : null;
  const tokens = metadata
    .array("tokenizer.ggml.tokens")
    .map((token, id) => (token === "" ? `[EMPTY_${id}]` : String(token)));
  if (tokens.length === 0) throw brokenTokenizer("has no tokens");
  const idOf = (key: string, standard: number | null = null): number | null => {
    const id = Number(get(`${key}_token_id`) ?? Number.NaN);
    return Number.isInteger(id) && id >= 0 && id < tokens.length ? id : standard;
  };
  const isLlama = model === "llama";
  return checkTokenizer({
    model,
    pre: kind?.pre ?? null,
    tokens,
    types: typesOf(metadata, tokens.length),
    scores: isLlama ? scoresOf(metadata, tokens.length) : null,
    merges: isLlama ? [] : mergesOf(metadata),
    ignoreMerges: kind?.ignoreMerges ?? false,
    bosId: idOf("bos", isLlama ? 1 : within(tokens, 11)),
    eosId: idOf("eos", isLlama ? 2 : within(tokens, 11)),
    unkId: idOf("unknown", isLlama ? 0 : null),
    padId: idOf("padding"),
    endIds: [idOf("eot"), idOf("eom")].filter((id) => id !== null),
    fillInMiddleIds: fillInMiddleIdsOf(idOf),
    addBos: flag(get("add_bos_token"), isLlama || (kind?.addBos ?? false)),
    addSpacePrefix: isLlama && flag(get("add_space_prefix"), true),
  });
}

function kindOf(name: Scalar | undefined): Kind {
  if (name === undefined || name === "") return { pre: "default" };
  const kind = kinds.get(String(name));
  if (kind === undefined) {
    throw unsupportedTokenizer(`the pre-tokenizer ${shown(name)}`, [...kinds.keys()].toSorted());
  }
  return kind;
}

function typesOf(metadata: GgufMetadata, count: number): Uint8Array {
  const types = metadata.array("tokenizer.ggml.token_type");
  if (types.length === 0) return new Uint8Array(count).fill(tokenTypes.normal);
  if (types.length < count) throw brokenTokenizer("lacks the types of some tokens");
  return Uint8Array.from({ length: count }, (_, id) => Number(types[id]));
}

function scoresOf(metadata: GgufMetadata, count: number): Float32Array {
  const scores = metadata.array("tokenizer.ggml.scores");
  if (scores.length < count) throw brokenTokenizer("lacks the scores of some tokens");
  return Float32Array.from({ length: count }, (_, id) => Number(scores[id]));
}

function mergesOf(metadata: GgufMetadata): string[] {
  const merges = metadata.array("tokenizer.ggml.merges");
  if (merges.length === 0) throw brokenTokenizer("has no merges");
  return merges.map(String);
}

function fillInMiddleIdsOf(idOf: (key: string) => number | null): TokenizerData["fillInMiddleIds"] {
  const keys: Readonly<Record<FillInMiddle, readonly string[]>> = {
    // The second names are older.
    prefix: ["fim_pre", "prefix"],
    suffix: ["fim_suf", "suffix"],
    middle: ["fim_mid", "middle"],
    pad: ["fim_pad"],
    repository: ["fim_rep"],
    separator: ["fim_sep"],
  };
  const found = Object.entries(keys).map(([kind, candidates]) => [
    kind,
    candidates.map((name) => idOf(name)).find((id) => id !== null),
  ]);
  return Object.fromEntries(found.filter(([, id]) => id !== undefined));
}

function within(tokens: readonly string[], id: number): number | null {
  return id < tokens.length ? id : null;
}

function flag(value: Scalar | undefined, standard: boolean): boolean {
  return typeof value === "boolean" ? value : standard;
}

function shown(value: Scalar | undefined): string {
  return JSON.stringify(String(value).slice(0, 80));
}
