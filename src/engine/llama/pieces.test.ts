import assert from "node:assert/strict";
import { test } from "node:test";
import { PieceDecoder } from "../piece-decoder.ts";
import type { NativeModel } from "./binding.ts";
import { createPieceTable } from "./pieces.ts";

/** A vocabulary as llama.cpp presents it: spelling and attribute bits of each token. */
function modelOf(
  type: number,
  tokens: readonly (readonly [text: string, attributes: number])[],
): NativeModel {
  return {
    tokenize: () => Uint32Array.of(0),
    detokenize: (ids: Uint32Array) => `<${ids[0]}>`,
    getTokenString: (token: number) => tokens[token]?.[0],
    getTokenAttributes: (token: number) => tokens[token]?.[1] ?? 0,
    getVocabularyType: () => type,
    isEogToken: () => false,
    shouldPrependBosToken: () => false,
    tokenBos: () => 0,
  };
}

function textOf(model: NativeModel, tokens: readonly number[]): string[] {
  const decoder = new PieceDecoder(createPieceTable(model));
  return [...tokens.map((token) => decoder.push(token)), decoder.flush()];
}

const normal = 4;
const control = 8;
const userDefined = 16;
const byte = 32;

test("byte-level BPE: spaces survive before punctuation, characters come whole", () => {
  const model = modelOf(2, [
    ["Ġa", normal],
    ["Ġ?", normal],
    ["ðŁ", normal],
    ["ĺ", normal],
    ["Ģ", normal],
    ["<|im_end|>", control],
    ["<think>", userDefined],
  ]);
  assert.deepEqual(textOf(model, [0, 1]), [" a", " ?", ""]);
  assert.deepEqual(textOf(model, [2, 3, 4, 5, 6]), ["", "", "😀", "", "<think>", ""]);
  assert.deepEqual(textOf(model, [2, 0]), ["", "\uFFFD a", ""]);
  assert.deepEqual(textOf(model, [2]), ["", "\uFFFD"]);
});

test("SentencePiece: metaspace and byte tokens", () => {
  const model = modelOf(1, [
    ["▁Hello", normal],
    ["<0xC3>", byte],
    ["<0xA9>", byte],
    ["<unk>", 1],
  ]);
  assert.deepEqual(textOf(model, [0, 1, 2, 3]), [" Hello", "", "é", "", ""]);
});

test("BPE with metaspaces, and vocabularies this file does not know", () => {
  const model = modelOf(2, [["▁a▁?", normal]]);
  assert.deepEqual(textOf(model, [0]), [" a ?", ""]);
  assert.deepEqual(textOf(modelOf(5, []), [7]), ["<7>", ""]);
});

test("control tokens have no text, but for the marks of thoughts and calls", () => {
  const model = modelOf(2, [
    ["<|im_end|>", control],
    ["[TOOL_CALLS]", control],
    ["</think>", control],
    ["<|python_tag|>", control],
  ]);
  assert.deepEqual(textOf(model, [0, 1, 2, 3]), ["", "[TOOL_CALLS]", "</think>", "<|python_tag|>", ""]);
});
