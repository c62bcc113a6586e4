/** SentencePiece's BPE: characters become tokens by score, characters that are no token become bytes. */
import { utf8 } from "../../util/bytes.ts";
import type { EncodeText } from "./bpe.ts";
import { brokenTokenizer, type TokenizerData } from "./data.ts";
import { mergePairs, PairTable } from "./merge.ts";
import { Symbols, WordCache } from "./symbols.ts";
import type { Vocabulary } from "./vocabulary.ts";

const space = "▁";

export function createSentencePieceEncoder({ data, idOf }: Vocabulary): EncodeText {
  const symbols = new Symbols(idOf, data.tokens.length);
  const pairs =
    data.scores === null ? pairsOfMerges(data, symbols) : pairsOfScores(data, data.scores, idOf, symbols);
  const byteTokens = byteTokensOf(data, idOf);
  const cache = new WordCache();
  const words = wordsExpression(idOf);

  function tokensOf(word: string): Int32Array {
    const characters = Int32Array.from(Array.from(word), (character) => symbols.ofCharacter(character));
    return symbols.toTokens(mergePairs(pairs, characters), spellOut);
  }

  function spellOut(text: string): number[] {
    return Array.from(utf8(text)).flatMap((byte) => byteTokens[byte] ?? []);
  }

  return (text, hasPrefix, output) => {
    const escaped = (hasPrefix ? space : "") + text.replaceAll(" ", space);
    for (const [word] of words === null ? [[escaped]] : escaped.matchAll(words)) {
      let tokens = cache.get(word);
      if (tokens === undefined) {
        tokens = tokensOf(word);
        cache.set(word, tokens);
      }
      for (const token of tokens) output.push(token);
    }
  };
}

/**
 * Where no token goes on with a space after something else, nothing merges across that place: the words between
 * can be merged apart, which a cache makes ten times as fast.
 */
function wordsExpression(idOf: ReadonlyMap<string, number>): RegExp | null {
  return [...idOf.keys()].some((token) => /[^▁]▁/.test(token)) ? null : /▁*[^▁]+|▁+/g;
}

function pairsOfMerges({ merges }: TokenizerData, symbols: Symbols): PairTable {
  const pairs = new PairTable(merges.length);
  merges.forEach((merge, rank) => {
    const [left, right] = merge.split(" ") as [string, string | undefined];
    if (right === undefined) throw brokenTokenizer("has a merge of one part only");
    pairs.add(symbols.of(left), symbols.of(right), rank, symbols.of(left + right));
  });
  return pairs;
}

/** Any two neighbours merge whose texts together are a token; the higher its score, the earlier. */
function pairsOfScores(
  data: TokenizerData,
  scores: Float32Array,
  idOf: ReadonlyMap<string, number>,
  symbols: Symbols,
): PairTable {
  const distinct = Float32Array.from(new Set(scores)).toSorted().toReversed();
  const rankOf = new Map(Array.from(distinct, (score, rank) => [score, rank]));
  const splits: [left: number, right: number, merged: number][] = [];
  for (const [text, id] of idOf) {
    const characters = Array.from(text);
    const part = (from: number, to?: number): number | undefined => {
      const some = characters.slice(from, to);
      // A character that is no token can still be a part of one.
      return some.length === 1 ? symbols.of(some[0]!) : idOf.get(some.join(""));
    };
    for (let at = 1; at < characters.length; at++) {
      const left = part(0, at);
      const right = left === undefined ? undefined : part(at);
      if (left !== undefined && right !== undefined) splits.push([left, right, id]);
    }
  }
  const pairs = new PairTable(splits.length);
  for (const [left, right, id] of splits) pairs.add(left, right, rankOf.get(data.scores![id]!)!, id);
  return pairs;
}

/** For each byte the token of that byte, else the one of that character, else the unknown one. */
function byteTokensOf(data: TokenizerData, idOf: ReadonlyMap<string, number>): (number | null)[] {
  const all = new Map(data.tokens.map((text, id) => [text, id]));
  return Array.from({ length: 256 }, (_, byte) => {
    const name = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    return all.get(name) ?? idOf.get(String.fromCharCode(byte)) ?? data.unkId;
  });
}
