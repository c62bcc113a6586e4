/** What a tokenizer may be, wherever it comes from: a file must not take more time and memory than real ones do. */
import { brokenTokenizer, type TokenizerData, tokenTypes } from "./data.ts";

/** The largest vocabularies in use have 260,000 tokens; no embedding has more rows. */
export const tokensMax: number = 2 ** 20;
/** The largest in use have 500,000; the ranks of these are exact in `mergePairs`. */
export const mergesMax = 4_000_000;
/** Models in use have a handful. */
export const endIdsMax = 1_000;
/**
 * Tokens that a text is searched for before all else, each of them in all of the text, and their characters together: the
 * vocabularies in use have 6,500 of a dozen characters at most. The worst that anybody could think of takes some seconds
 * for 100,000 characters.
 */
const wholeTokensMax = 8_192;
const wholeCharactersMax: number = 2 ** 18;
/** The longest in use are runs of 128 and more spaces or signs. */
export const tokenLengthMax = 1_024;
/**
 * A token of SentencePiece is cut at each of its places and looked up: characters times places, over all tokens. The
 * vocabularies in use have 50 million at most; this many take a few seconds.
 */
const splitCharactersMax = 500_000_000;

/**
 * The data, when it holds together.
 * @throws SkeinError `invalid_model_file`
 */
export function checkTokenizer(data: TokenizerData): TokenizerData {
  const { tokens, types, scores, merges, endIds } = data;
  // 1. How much there is.
  if (tokens.length === 0) throw brokenTokenizer("has no tokens");
  requireAtMost("tokens", tokens.length, tokensMax);
  requireAtMost("merges", merges.length, mergesMax);
  requireAtMost("tokens that end an answer", endIds.length, endIdsMax);
  const { control, unknown, userDefined } = tokenTypes;
  const isWhole = (_: string, id: number): boolean =>
    types[id] === control || types[id] === unknown || types[id] === userDefined;
  const whole = tokens.filter(isWhole);
  requireAtMost("special and user-defined tokens", whole.length, wholeTokensMax);
  const wholeCharacters = whole.reduce((sum, { length }) => sum + length, 0);
  requireAtMost("characters in special and user-defined tokens", wholeCharacters, wholeCharactersMax);
  let splitCharacters = 0;
  for (const [id, { length }] of tokens.entries()) {
    if (length > tokenLengthMax) {
      throw brokenTokenizer(
        `has a token (${id}) of ${length} characters; at most ${tokenLengthMax} are possible`,
      );
    }
    splitCharacters += length * length;
  }
  if (scores !== null && splitCharacters > splitCharactersMax)
    throw brokenTokenizer("has too many long tokens");
  // 2. Whether its parts fit together.
  if (types.length !== tokens.length) throw brokenTokenizer("does not have one type for each token");
  if (scores !== null && scores.length !== tokens.length) {
    throw brokenTokenizer("does not have one score for each token");
  }
  if (scores === null && merges.length === 0) throw brokenTokenizer("has no merges");
  // 3. Whether its ids are of tokens.
  const { bosId, eosId, unkId, padId, fillInMiddleIds } = data;
  for (const id of [bosId, eosId, unkId, padId, ...endIds, ...Object.values(fillInMiddleIds)]) {
    if (id !== null && id >= tokens.length) {
      throw brokenTokenizer(`names the token ${id}, but has only ${tokens.length}`);
    }
  }
  return data;
}

function requireAtMost(what: string, count: number, most: number): void {
  if (count > most) throw brokenTokenizer(`has ${count} ${what}; at most ${most} are possible`);
}
