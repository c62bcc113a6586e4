/** Byte-level BPE: words become bytes, bytes become tokens. */
import { utf8 } from "../../util/bytes.ts";
import { characterOfByte } from "./byte-level.ts";
import { brokenTokenizer, type TokenizerData } from "./data.ts";
import { mergePairs, PairTable } from "./merge.ts";
import { preTokenizers, stepsOf } from "./pre-tokenizers.ts";
import { createSplit } from "./split.ts";
import { Symbols, WordCache } from "./symbols.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** Appends the tokens of a text without special tokens. */
export type EncodeText = (text: string, hasPrefix: boolean, output: number[]) => void;

export function createBytePairEncoder({ data, idOf }: Vocabulary): EncodeText {
  if (data.pre === null) throw brokenTokenizer(`lacks a pre-tokenizer (one of ${preTokenizers.join(", ")})`);
  const symbols = new Symbols(idOf, data.tokens.length);
  const pairs = pairsOf(data, symbols);
  const symbolOfByte = Int32Array.from(characterOfByte, (character) => symbols.of(character));
  const split = createSplit(stepsOf(data.pre));
  const cache = new WordCache();
  const wordBytesMax = longestSpelling(data);

  function tokensOf(word: string): Int32Array {
    const bytes = utf8(word);
    if (data.ignoreMerges && bytes.length <= wordBytesMax) {
      const whole = idOf.get(Array.from(bytes, (byte) => characterOfByte[byte]).join(""));
      if (whole !== undefined) return Int32Array.of(whole);
    }
    const merged = mergePairs(
      pairs,
      Int32Array.from(bytes, (byte) => symbolOfByte[byte]!),
    );
    return symbols.toTokens(merged, spellOut);
  }

  /** For broken vocabularies, as llama.cpp: of what is no token, ASCII characters that are tokens remain. */
  function spellOut(text: string): number[] {
    return Array.from(text).flatMap((character) => (character < "\x80" ? (idOf.get(character) ?? []) : []));
  }

  return (text, _hasPrefix, output) => {
    for (const word of split(text)) {
      let tokens = cache.get(word);
      if (tokens === undefined) {
        tokens = tokensOf(word);
        cache.set(word, tokens);
      }
      for (const token of tokens) output.push(token);
    }
  };
}

function pairsOf({ merges }: TokenizerData, symbols: Symbols): PairTable {
  const pairs = new PairTable(merges.length);
  merges.forEach((merge, rank) => {
    // A space in front belongs to the left part.
    const space = merge.indexOf(" ", 1);
    if (space < 0) throw brokenTokenizer("has a merge of one part only");
    const left = merge.slice(0, space);
    const right = merge.slice(space + 1);
    pairs.add(symbols.of(left), symbols.of(right), rank, symbols.of(left + right));
  });
  return pairs;
}

function longestSpelling({ tokens }: TokenizerData): number {
  return tokens.reduce((longest, token) => Math.max(longest, token.length), 0);
}
