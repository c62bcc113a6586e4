/**
 * The tokenizer that `tokenizer.json` and `tokenizer_config.json` describe, as llama.cpp's conversion to GGUF
 * (conversion/base.py, MIT) makes it: a model reads the same from either kind of file.
 *
 * Normalization to NFC (Qwen's) is left out, as there: text reaches the model as it was written.
 */
import { brokenTokenizer, type TokenizerData, tokenTypes, unsupportedTokenizer } from "./data.ts";
import { preTokenizerOf } from "./hugging-face-pre.ts";
import { field, listOf } from "./json.ts";
import { checkTokenizer, tokensMax } from "./limits.ts";

/** The files, parsed. */
export interface HuggingFaceTokenizer {
  /** `tokenizer.json` */
  readonly tokenizer: unknown;
  /** `tokenizer_config.json` */
  readonly config: unknown;
  /** `generation_config.json`, whose `eos_token_id` may name more tokens that end an answer. */
  readonly generation?: unknown;
  /** Rows of the embedding matrix, which may be more than the tokens. */
  readonly vocabularySize: number;
}

/** @throws SkeinError `invalid_model_file`, `unsupported_model` */
export function tokenizerFromHuggingFace(files: HuggingFaceTokenizer): TokenizerData {
  const { tokenizer, config, generation } = files;
  const model = field(tokenizer, "model");
  // Files from before the field was there have no type.
  if ((field(model, "type") ?? "BPE") !== "BPE") {
    throw unsupportedTokenizer(`tokenizers of the type ${shown(field(model, "type"))}`, ["BPE"]);
  }
  const isSentencePiece = field(model, "byte_fallback") === true;
  const pre = isSentencePiece ? null : preTokenizerOf(tokenizer);
  const { tokens, types } = tokensOf(files, isSentencePiece);
  const ids = new Map(tokens.map((text, id) => [text, id]));
  const idOf = (value: unknown): number | null => ids.get(tokenText(value) ?? "") ?? null;
  const bosId = idOf(field(config, "bos_token"));
  return checkTokenizer({
    model: isSentencePiece ? "llama" : "gpt2",
    pre,
    tokens,
    types,
    scores: null,
    merges: mergesOf(model),
    // Not as the file has it, but as llama.cpp takes it, which looks at the pre-tokenizer.
    ignoreMerges: pre === "llama-bpe" || pre === "tekken",
    bosId,
    eosId: idOf(field(config, "eos_token")),
    unkId: idOf(field(model, "unk_token")),
    padId: idOf(field(config, "pad_token")),
    endIds: [field(generation, "eos_token_id")].flat().filter((id) => isId(id, tokens.length)),
    fillInMiddleIds: {},
    addBos: addBosOf(files, bosId === null ? null : tokens[bosId]!, isSentencePiece),
    addSpacePrefix: isSentencePiece && addSpacePrefixOf(tokenizer),
  });
}

function tokensOf(
  { tokenizer, vocabularySize }: HuggingFaceTokenizer,
  isSentencePiece: boolean,
): { tokens: string[]; types: Uint8Array } {
  if (!Number.isInteger(vocabularySize) || vocabularySize < 1 || vocabularySize > tokensMax) {
    throw brokenTokenizer(`has an impossible number of tokens (${vocabularySize})`);
  }
  const model = field(tokenizer, "model");
  const tokens = Array.from({ length: vocabularySize }, (_, id) => `[PAD${id}]`);
  const types = new Uint8Array(vocabularySize).fill(tokenTypes.unused);
  const place = (text: string, id: unknown, type: number): void => {
    if (!isId(id, vocabularySize)) {
      throw brokenTokenizer(`has the token ${shown(text)} beyond its ${vocabularySize} tokens`);
    }
    tokens[id] = text;
    types[id] = type;
  };
  const unknown = field(model, "unk_token");
  for (const [text, id] of Object.entries(field(model, "vocab") ?? {})) {
    const isByte = isSentencePiece && /^<0x[0-9A-F]{2}>$/.test(text);
    place(text, id, isByte ? tokenTypes.byte : tokenTypes.normal);
  }
  for (const token of listOf(field(tokenizer, "added_tokens"))) {
    const text = String(field(token, "content"));
    if (text === unknown) place(text, field(token, "id"), tokenTypes.unknown);
    else if (field(token, "special") === true || looksSpecial(text)) {
      place(text, field(token, "id"), tokenTypes.control);
    } else place(text.replaceAll("▁", " "), field(token, "id"), tokenTypes.userDefined);
  }
  if (types.every((type) => type === tokenTypes.unused)) throw brokenTokenizer("has no tokens");
  return { tokens, types };
}

/** Some models forget to mark them. */
function looksSpecial(text: string): boolean {
  return /^(?:<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\])$/s.test(text);
}

function mergesOf(model: unknown): string[] {
  const merges = listOf(field(model, "merges")).map((merge) =>
    Array.isArray(merge) ? merge.join(" ") : String(merge),
  );
  if (merges.length === 0) throw brokenTokenizer("has no merges");
  return merges;
}

function addBosOf(
  { tokenizer, config }: HuggingFaceTokenizer,
  bos: string | null,
  isSentencePiece: boolean,
): boolean {
  const asked = field(config, "add_bos_token");
  if (typeof asked === "boolean") return asked;
  const processor = field(tokenizer, "post_processor");
  const processors =
    field(processor, "type") === "Sequence" ? listOf(field(processor, "processors")) : [processor];
  const template = processors.find((one) => field(one, "type") === "TemplateProcessing");
  if (template === undefined) return isSentencePiece;
  const [first] = listOf(field(template, "single"));
  return bos !== null && field(field(first, "SpecialToken"), "id") === bos;
}

function addSpacePrefixOf(tokenizer: unknown): boolean {
  const pre = field(tokenizer, "pre_tokenizer");
  if (field(pre, "type") === "Metaspace") {
    const scheme = field(pre, "prepend_scheme");
    return scheme === undefined ? field(pre, "add_prefix_space") !== false : scheme !== "never";
  }
  const normalizer = field(tokenizer, "normalizer");
  const steps =
    field(normalizer, "type") === "Sequence" ? listOf(field(normalizer, "normalizers")) : [normalizer];
  const isReplacing = steps.some(
    (step) => field(step, "type") === "Replace" && field(step, "content") === "▁",
  );
  if (!isReplacing || (pre !== null && pre !== undefined)) {
    throw unsupportedTokenizer("the normalizer or pre-tokenizer of this tokenizer.json", [
      "Prepend and Replace with ▁, without a pre-tokenizer",
      "Metaspace",
    ]);
  }
  return steps.some((step) => field(step, "type") === "Prepend" && field(step, "prepend") === "▁");
}

/** A token stands there as text, or with its properties. */
function tokenText(value: unknown): string | null {
  const text = typeof value === "string" ? value : field(value, "content");
  return typeof text === "string" ? text : null;
}

function isId(value: unknown, count: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < count;
}

function shown(value: unknown): string {
  return JSON.stringify(String(value).slice(0, 80));
}
