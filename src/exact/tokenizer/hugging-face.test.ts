import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../../util/errors.ts";
import { type TokenizerData, tokenTypes } from "./data.ts";
import { dataOf, hardTexts, randomTexts, tinyVocabulary } from "./fixture.suite.ts";
import { type HuggingFaceTokenizer, tokenizerFromHuggingFace } from "./from-hugging-face.ts";
import { isMissing, vocabulary } from "./llama-cpp.suite.ts";
import { createTokenizer } from "./tokenizer.ts";

const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
const digits = { type: "Digits", individual_digits: true };
const cl100k = (count: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${count}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

function splitBy(expression: string): object {
  const split = { type: "Split", pattern: { Regex: expression }, behavior: "Isolated", invert: false };
  return { type: "Sequence", pretokenizers: [split, { ...byteLevel, use_regex: false }] };
}

/** The files that would give this tokenizer. */
function filesOf(
  data: TokenizerData,
  more: object,
  merges = data.merges,
): HuggingFaceTokenizer & { tokenizer: object } {
  const { control, userDefined, unknown, unused } = tokenTypes;
  const all = data.tokens.map((content, id) => ({ content, id, type: data.types[id] }));
  const added = all
    .filter(({ type }) => type === control || type === userDefined || type === unknown)
    .map(({ content, id, type }) => ({ content, id, special: type !== userDefined }));
  const vocab = all.filter(({ type }) => type !== control && type !== userDefined && type !== unused);
  return {
    tokenizer: {
      model: {
        type: "BPE",
        vocab: Object.fromEntries(vocab.map(({ content, id }) => [content, id])),
        merges,
        unk_token: data.unkId === null ? null : data.tokens[data.unkId],
        byte_fallback: data.model === "llama",
      },
      added_tokens: added,
      ...more,
    },
    config: {
      bos_token: data.bosId === null ? null : { content: data.tokens[data.bosId] },
      eos_token: data.eosId === null ? null : data.tokens[data.eosId],
      pad_token: data.padId === null ? null : data.tokens[data.padId],
      add_bos_token: data.addBos,
    },
    vocabularySize: data.tokens.length,
  };
}

function same(wanted: TokenizerData, files: HuggingFaceTokenizer): void {
  const [expected, actual] = [createTokenizer(wanted), createTokenizer(tokenizerFromHuggingFace(files))];
  for (const text of [...hardTexts, ...randomTexts(3, 1000, wanted.tokens)]) {
    for (const parseSpecial of [false, true]) {
      const options = { parseSpecial, addSpecial: true };
      assert.deepEqual(actual.encode(text, options), expected.encode(text, options), JSON.stringify(text));
    }
  }
  const ids = wanted.tokens.map((_, id) => id);
  assert.deepEqual(actual.decode(ids), expected.decode(ids));
  assert.ok(ids.every((id) => actual.isEndOfGeneration(id) === expected.isEndOfGeneration(id)));
}

const tiny = dataOf(tinyVocabulary());

test("the demo model's tokenizer from Hugging Face files", () => {
  const files = filesOf(tiny, { pre_tokenizer: { type: "Sequence", pretokenizers: [digits, byteLevel] } });
  const read = tokenizerFromHuggingFace(files);
  const { endIds, ...rest } = tiny;
  assert.deepEqual({ ...read, endIds }, { ...rest, endIds });
  same(tiny, files);
});

test("Llama 3's, with merges as pairs and the beginning token from the template", { skip: isMissing }, () => {
  const data = dataOf(vocabulary("llama-bpe"));
  const pairs = data.merges.map((merge) => merge.split(" ") as unknown as string);
  const files = filesOf(data, { pre_tokenizer: splitBy(cl100k("{1,3}")) }, pairs);
  const [bos] = data.tokens.slice(data.bosId!);
  const template = { type: "TemplateProcessing", single: [{ SpecialToken: { id: bos } }, { Sequence: {} }] };
  const post = { type: "Sequence", processors: [{ type: "ByteLevel" }, template] };
  const { bos_token, eos_token } = files.config as Record<string, unknown>;
  same(data, {
    ...files,
    tokenizer: { ...files.tokenizer, post_processor: post },
    config: { bos_token, eos_token },
  });
});

test("SentencePiece's, by merges instead of scores", { skip: isMissing }, () => {
  const data = dataOf(vocabulary("llama-spm"));
  const replace = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const normalizer = { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, replace] };
  same(data, filesOf(data, { normalizer, pre_tokenizer: null }, mergesOf(data)));
  const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "never", split: false };
  const files = filesOf(data, { normalizer: null, pre_tokenizer: metaspace }, mergesOf(data));
  same({ ...data, addSpacePrefix: false }, files);
});

/** As Hugging Face's converter makes them from SentencePiece's model. */
function mergesOf({ tokens, scores, types }: TokenizerData): string[] {
  const known = new Set(tokens.filter((_, id) => types[id] === tokenTypes.normal));
  return tokens
    .map((text, id) => ({ text, score: scores![id]! }))
    .filter(({ text }) => known.has(text))
    .toSorted((a, b) => b.score - a.score)
    .flatMap(({ text }) => {
      const characters = Array.from(text);
      return characters.slice(1).flatMap((_, at) => {
        const [left, right] = [characters.slice(0, at + 1).join(""), characters.slice(at + 1).join("")];
        return known.has(left) && known.has(right) ? [`${left} ${right}`] : [];
      });
    });
}

test("tokens beyond the file's, and ends that the generation's file names", () => {
  const files = filesOf(tiny, { pre_tokenizer: { type: "Sequence", pretokenizers: [digits, byteLevel] } });
  const read = tokenizerFromHuggingFace({
    ...files,
    generation: { eos_token_id: [7, 9] },
    vocabularySize: tiny.tokens.length + 2,
  });
  assert.equal(read.tokens.at(-1), `[PAD${tiny.tokens.length + 1}]`);
  const tokenizer = createTokenizer(read);
  assert.equal(tokenizer.tokenBytes(tiny.tokens.length).length, 0);
  assert.ok(tokenizer.isEndOfGeneration(7) && tokenizer.isEndOfGeneration(9));
});

test("pre-tokenizers are known by their steps", () => {
  const preOf = (pre: unknown): string | null =>
    tokenizerFromHuggingFace(filesOf(tiny, { pre_tokenizer: pre })).pre;
  assert.equal(preOf(byteLevel), "gpt-2");
  assert.equal(preOf(splitBy(cl100k("{1,3}"))), "llama-bpe");
  assert.equal(preOf(splitBy(cl100k(""))), "qwen2");
  const unsupported = (error: unknown): boolean =>
    error instanceof SkeinError && error.code === "unsupported_model" && /qwen2/.test(error.text);
  for (const pre of [
    null,
    splitBy(cl100k("+")),
    { ...byteLevel, add_prefix_space: true },
    { type: "Whitespace" },
  ]) {
    assert.throws(() => preOf(pre), unsupported);
  }
});

test("broken files are refused", () => {
  const broken = (error: unknown): boolean =>
    error instanceof SkeinError &&
    (error.code === "invalid_model_file" || error.code === "unsupported_model");
  const good = filesOf(tiny, { pre_tokenizer: byteLevel });
  assert.throws(() => tokenizerFromHuggingFace({ ...good, tokenizer: null }), broken);
  assert.throws(
    () => tokenizerFromHuggingFace({ ...good, tokenizer: { model: { type: "Unigram" } } }),
    broken,
  );
  assert.throws(() => tokenizerFromHuggingFace({ ...good, vocabularySize: 10 }), broken);
  assert.throws(() => tokenizerFromHuggingFace({ ...good, vocabularySize: Number.NaN }), broken);
  assert.throws(() => tokenizerFromHuggingFace({ ...good, vocabularySize: 2 ** 20 + 1 }), broken);
  const long = { ...tiny, tokens: tiny.tokens.with(300, "x".repeat(1_025)) };
  assert.throws(() => tokenizerFromHuggingFace(filesOf(long, { pre_tokenizer: byteLevel })), broken);
  assert.throws(() => tokenizerFromHuggingFace(filesOf(tiny, { pre_tokenizer: byteLevel }, [])), broken);
});
