import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SkeinError } from "../../util/errors.ts";
import { type TokenizerData, tokenTypes } from "./data.ts";
import { dataOf, hardTexts, metadataOf, readEntries, tinyVocabulary } from "./fixture.suite.ts";
import { type GgufMetadata, tokenizerFromGguf } from "./from-gguf.ts";
import { checkTokenizer } from "./limits.ts";
import { mergePairs, PairTable } from "./merge.ts";
import { preTokenizers } from "./pre-tokenizers.ts";
import { createTokenizer, type ExactTokenizer } from "./tokenizer.ts";

const tinyFile = tinyVocabulary();
const tinyData = dataOf(tinyFile);
const tiny = createTokenizer(tinyData);
const asUser = { parseSpecial: false, addSpecial: false };
const asTemplate = { parseSpecial: true, addSpecial: false };

/** A vocabulary of single characters and bytes, and of what is given with its score. */
function sentencePiece(
  scored: Readonly<Record<string, number>>,
  more: Partial<TokenizerData> = {},
): TokenizerData {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const tokens = ["<unk>", "<s>", "</s>", ...bytes, ...Object.keys(scored)];
  const { unknown, control, byte, normal } = tokenTypes;
  return {
    model: "llama",
    pre: null,
    tokens,
    types: Uint8Array.from(tokens, (_, id) =>
      id === 0 ? unknown : id < 3 ? control : id < 259 ? byte : normal,
    ),
    scores: Float32Array.from(tokens, (token) => scored[token] ?? 0),
    merges: [],
    ignoreMerges: false,
    bosId: 1,
    eosId: 2,
    unkId: 0,
    padId: null,
    endIds: [],
    fillInMiddleIds: {},
    addBos: true,
    addSpacePrefix: true,
    ...more,
  };
}

function spelled(data: TokenizerData, ids: readonly number[]): string[] {
  return ids.map((id) => data.tokens[id]!);
}

function code(expected: string, message: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof SkeinError && error.code === expected && message.test(error.text);
}

test("what is decoded is what was encoded, whatever the pre-tokenizer", () => {
  for (const pre of preTokenizers) {
    const tokenizer = createTokenizer({ ...tinyData, pre });
    for (const text of hardTexts) {
      assert.equal(tokenizer.decode(tokenizer.encode(text, asUser)), text.toWellFormed());
    }
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
        assert.equal(tokenizer.decode(tokenizer.encode(text, asUser)), text);
      }),
      { numRuns: 300 },
    );
  }
});

test("special tokens come from templates, never from users", () => {
  const text = "<|im_start|>user\nhi<|im_end|>";
  const [start, end] = ["<|im_start|>", "<|im_end|>"].map((token) => tinyData.tokens.indexOf(token));
  const parsed = tiny.encode(text, asTemplate);
  assert.equal(parsed[0], start);
  assert.equal(parsed.at(-1), end);
  const plain = tiny.encode(text, asUser);
  assert.ok(!plain.includes(start!) && !plain.includes(end!));
  assert.equal(tiny.decode(plain), text);
  assert.equal(tiny.decode(parsed), "user\nhi");
  const pieces = [
    { text: "<|im_start|>user\n", special: true },
    { text: "<|im_end|><|im_start|>", special: false },
    { text: "<|im_end|>\n", special: true },
  ];
  const tokens = tiny.encodePieces(pieces);
  assert.equal(tokens.filter((id) => id === start).length, 1);
  assert.equal(tokens.filter((id) => id === end).length, 1);
});

test("a user's text does not merge into a special token either", () => {
  const scored = { "<": -1, s: -1, ">": -1, "<s": -2, "▁": -3 };
  const data = sentencePiece(scored, { addSpacePrefix: false });
  const tokenizer = createTokenizer(data);
  assert.deepEqual(spelled(data, tokenizer.encode("<s>", asUser)), ["<s", ">"]);
  assert.deepEqual(tokenizer.encode("<s>", asTemplate), [1]);
  assert.deepEqual(spelled(data, tokenizer.encode("<0x41>", asUser)).slice(0, 2), ["<", "<0x30>"]);
});

test("the longest special token is found first", () => {
  const tokens = [...tinyData.tokens, "<a><b>", "<a>", "<b>", "b><c>>>>"];
  const special = (id: number): boolean => id >= tinyData.tokens.length;
  const types = Uint8Array.from(tokens, (_, id) =>
    special(id) ? tokenTypes.userDefined : tinyData.types[id]!,
  );
  const data = { ...tinyData, tokens, types };
  const found = (text: string): string[] =>
    spelled(data, createTokenizer(data).encode(text, asUser).filter(special));
  assert.deepEqual(found("x<a><b><b>y<a>"), ["<a><b>", "<b>", "<a>"]);
  assert.deepEqual(found("<a><b><c>>>>"), ["<a>", "b><c>>>>"]);
});

test("the beginning token is put in front once", () => {
  const tokenizer = createTokenizer(sentencePiece({ "▁a": -1, a: -2, "▁": -3 }));
  assert.deepEqual(tokenizer.encode("a", { parseSpecial: false, addSpecial: true }), [1, 259]);
  assert.deepEqual(tokenizer.encode("<s>a", { parseSpecial: true, addSpecial: true }), [1, 259]);
  assert.deepEqual(tokenizer.encodePieces([{ text: "<s>a", special: true }]), [1, 259]);
  assert.deepEqual(tokenizer.encodePieces([]), [1]);
  assert.deepEqual(tokenizer.encode("", asUser), []);
});

test("SentencePiece: scores decide, then the place; unknown characters become bytes", () => {
  const data = sentencePiece({ a: -9, b: -9, "▁": -9, ab: -2, ba: -1, "▁a": -1, aa: -3, "ab▁": -4 });
  const encode = (text: string): string[] => spelled(data, createTokenizer(data).encode(text, asUser));
  assert.deepEqual(encode("ab"), ["▁a", "b"]);
  assert.deepEqual(encode("bab"), ["▁", "ba", "b"]);
  assert.deepEqual(encode("aaaa"), ["▁a", "aa", "a"]);
  assert.deepEqual(encode("bbab ab a"), ["▁", "b", "ba", "b", "▁a", "b", "▁a"]);
  assert.deepEqual(encode("é\n"), ["▁", "<0xC3>", "<0xA9>", "<0x0A>"]);
  const across = sentencePiece({ a: -9, b: -9, "▁": -9, "b▁": -1, "b▁a": -2 });
  assert.deepEqual(spelled(across, createTokenizer(across).encode("b a", asUser)), ["▁", "b▁a"]);
});

test("SentencePiece: the space prefix comes after special tokens, not within a prompt", () => {
  const data = sentencePiece({ a: -9, "▁": -9, "▁a": -1 });
  const tokenizer = createTokenizer(data);
  assert.deepEqual(spelled(data, tokenizer.encode("a<s>a", asTemplate)), ["▁a", "<s>", "▁a"]);
  const pieces = [
    { text: "a", special: true },
    { text: "a", special: false },
    { text: "</s>a", special: true },
  ];
  assert.deepEqual(spelled(data, tokenizer.encodePieces(pieces)), ["<s>", "▁a", "a", "</s>", "▁a"]);
  const [bytes, metaspace] = [tokenizer.tokenBytes(3 + 0xff), tokenizer.tokenBytes(261)];
  assert.deepEqual([...bytes, ...metaspace], [0xff, 0x20, 0x61]);
});

test("long runs of one character end", () => {
  for (const unit of ["a", " ", "\n", "!", "0", "中", "😀", "ab", "<|", "e\u0301"]) {
    const text = unit.repeat(200_000 / unit.length);
    assert.equal(tiny.decode(tiny.encode(text, asTemplate)), text);
  }
});

test("merging in a heap is merging by search", () => {
  const pair = fc.tuple(fc.nat(5), fc.nat(5));
  fc.assert(
    fc.property(fc.array(pair, { maxLength: 12 }), fc.array(fc.nat(2), { maxLength: 60 }), (merges, word) => {
      const table = new PairTable(merges.length);
      // Ranks may be equal, as those of SentencePiece's scores.
      merges.forEach(([left, right], i) => table.add(left, right, i >> 1, 3 + (i % 3)));
      assert.deepEqual([...mergePairs(table, Int32Array.from(word))], searched(table, word));
    }),
    { numRuns: 2000 },
  );
});

function searched(table: PairTable, word: readonly number[]): number[] {
  const symbols = [...word];
  for (;;) {
    const ranks = symbols.slice(1).map((right, i) => table.rank(symbols[i]!, right));
    const least = Math.min(...ranks.filter((rank) => rank >= 0));
    const at = ranks.indexOf(least);
    if (at < 0) return symbols;
    symbols.splice(at, 2, table.merged(symbols[at]!, symbols[at + 1]!));
  }
}

test("bytes of tokens: half characters stay bytes, special tokens are nothing", () => {
  const [id] = tiny.encode("\u00e9", asUser);
  assert.ok(tiny.tokenBytes(id!).length > 0);
  assert.equal(tiny.decode(tiny.encode("é", asUser).slice(0, 1)).length, 1);
  assert.equal(tiny.tokenBytes(tinyData.tokens.indexOf("<|im_end|>")).length, 0);
  assert.throws(() => tiny.tokenBytes(tiny.vocabularySize), RangeError);
  assert.ok(tinyData.tokens.every((_, token) => tiny.tokenBytes(token).length <= tiny.tokenBytesMax));
});

test("marks of thoughts and calls are text, also where they are control tokens; in a prompt they are not", () => {
  const id = tinyData.tokens.indexOf("<|im_start|>");
  const tokens = tinyData.tokens.map((text, i) => (i === id ? "[TOOL_CALLS]" : text));
  const marked = createTokenizer({ ...tinyData, tokens });
  assert.equal(marked.decode([id]), "[TOOL_CALLS]");
  assert.ok(marked.specialTexts().includes("[TOOL_CALLS]"));
  assert.ok(!marked.encode("[TOOL_CALLS]", asUser).includes(id));
});

test("tokens that end an answer: the file's, and those known by their text", () => {
  const ends = tinyData.tokens.filter((_, id) => tiny.isEndOfGeneration(id));
  assert.deepEqual(ends, ["<|endoftext|>", "<|im_end|>"]);
  const other = createTokenizer({ ...tinyData, endIds: [700] });
  assert.ok(other.isEndOfGeneration(700));
  const named = createTokenizer({ ...tinyData, fillInMiddleIds: { pad: 701, prefix: 702 } });
  assert.ok(named.isEndOfGeneration(701) && !named.isEndOfGeneration(702));
});

test("tokens around a middle: the file's, else those known by their text, and only if all three are special", () => {
  const texts = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
  const tokens = [...tinyData.tokens.slice(0, -3), ...texts];
  const types = tinyData.types.map((type, id) => (id < tokens.length - 3 ? type : 3));
  const data = { ...tinyData, tokens, types };
  const tokenizer = createTokenizer(data);
  const [prefix, suffix, middle] = texts as [string, string, string];
  assert.deepEqual(tokenizer.infillTexts(), { prefix, suffix, middle });
  const ids = tokenizer.encodePieces([
    { text: prefix, special: true },
    { text: `a ${suffix}`, special: false },
    { text: middle, special: true },
  ]);
  const own = [tokens.indexOf(prefix), tokens.indexOf(middle)];
  assert.deepEqual([ids.includes(own[0]!), ids.at(-1)], [true, own[1]]);
  assert.ok(!ids.includes(tokens.indexOf(suffix)));
  assert.equal(tiny.infillTexts(), null);
  // Named by the file, but nothing that a text is ever read as.
  const ordinary = createTokenizer({ ...data, fillInMiddleIds: { middle: 300 } });
  assert.equal(ordinary.infillTexts(), null);
});

test("what is broken or unknown is refused with what is supported", () => {
  const entries = metadataOf(readEntries(tinyFile));
  const changed = (changes: Readonly<Record<string, string | string[]>>): GgufMetadata => ({
    scalar: (key) => (changes[key] as string | undefined) ?? entries.scalar(key),
    array: (key) => (changes[key] as string[] | undefined) ?? entries.array(key),
  });
  const of = (name: string, value: string | string[]) => () =>
    createTokenizer(tokenizerFromGguf(changed({ [`tokenizer.ggml.${name}`]: value })));
  assert.throws(of("model", "t5"), code("unsupported_model", /"t5".*gpt2, llama/));
  assert.throws(of("pre", "kimi-k2"), code("unsupported_model", /"kimi-k2".*llama-bpe.*qwen2/));
  assert.throws(of("tokens", []), code("invalid_model_file", /no tokens/));
  assert.throws(of("merges", []), code("invalid_model_file", /no merges/));
  assert.throws(of("merges", ["ab"]), code("invalid_model_file", /one part/));
  assert.throws(of("token_type", ["1"]), code("invalid_model_file", /types/));
  assert.throws(of("tokens", ["a", "a"]), code("invalid_model_file", /twice/));
  assert.throws(of("tokens", ["a", "x".repeat(1_025)]), code("invalid_model_file", /1025 characters/));
});

test("many user-defined tokens are found as few are", () => {
  const plain = { a: -9, b: -9, c: -9, "▁": -9 };
  const words = ["abc", "ab", "ca"];
  const withTokens = (others: number): ExactTokenizer => {
    const data = sentencePiece(plain);
    const tokens = [...data.tokens, ...words, ...Array.from({ length: others }, (_, i) => `<${i}>`)];
    const added = tokens.length - data.tokens.length;
    return createTokenizer({
      ...data,
      tokens,
      types: Uint8Array.of(...data.types, ...Array<number>(added).fill(4)),
      scores: Float32Array.of(...data.scores!, ...Array<number>(added).fill(0)),
    });
  };
  const [few, many] = [withTokens(0), withTokens(2_000)];
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("a", "b", "c", " ", "<"), maxLength: 40 }), (text) => {
      assert.deepEqual(many.encode(text, asUser), few.encode(text, asUser));
    }),
  );
  assert.equal(many.decode(many.encode("a<1999>c", asUser)), " a<1999> c");
  assert.ok(many.encode("a<1999>c", asUser).length < few.encode("a<1999>c", asUser).length);
});

test("what no real tokenizer has is refused before it takes time or memory", () => {
  const data = sentencePiece({ a: -9, "▁": -9, "▁a": -1 });
  const long = (count: number, length: number): Partial<TokenizerData> => {
    const tokens = Array.from({ length: count }, (_, id) => String(id).padStart(length, "a"));
    return { tokens, types: new Uint8Array(count).fill(1), scores: new Float32Array(count) };
  };
  const count = data.tokens.length;
  const cases: [Partial<TokenizerData>, RegExp][] = [
    [long(count, 1_025), /1025 characters/],
    [long(1_000, 1_000), /long tokens/],
    [{ merges: Array.from({ length: 4_000_001 }, () => "") }, /4000001 merges/],
    [{ ...long(8_193, 9), types: new Uint8Array(8_193).fill(4) }, /8193 special and user-defined tokens/],
    [{ ...long(1_000, 263), types: new Uint8Array(1_000).fill(3) }, /263000 characters in special/],
    [{ endIds: Array.from({ length: 1_001 }, () => 0) }, /1001 tokens that end/],
    [{ tokens: [] }, /no tokens/],
    [{ types: data.types.slice(1) }, /one type/],
    [{ scores: data.scores!.slice(1) }, /one score/],
    [{ scores: null }, /no merges/],
    [{ endIds: [count] }, /has only/],
    [{ fillInMiddleIds: { pad: count } }, /has only/],
    ...["bosId", "eosId", "unkId", "padId"].map((key): [Partial<TokenizerData>, RegExp] => [
      { [key]: count },
      /has only/,
    ]),
  ];
  for (const [change, message] of cases) {
    assert.throws(() => checkTokenizer({ ...data, ...change }), code("invalid_model_file", message));
  }
  for (const good of [data, { ...data, ...long(400, 1_024) }]) assert.equal(checkTokenizer(good), good);
});
