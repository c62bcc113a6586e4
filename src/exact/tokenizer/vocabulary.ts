/** What each token is, and which tokens text can become. */
import { answerMarks } from "../../protocol/answer-marks.ts";
import { utf8 } from "../../util/bytes.ts";
import { bytesOfSpelling } from "./byte-level.ts";
import { brokenTokenizer, type FillInMiddle, type TokenizerData, tokenTypes } from "./data.ts";

export interface Vocabulary {
  readonly data: TokenizerData;
  /** Tokens that stand for themselves only and add nothing to an answer: control tokens and the unknown one. */
  readonly isSpecial: (id: number) => boolean;
  /** Tokens that a text can be made of. Special ones are not: a user could write them. */
  readonly idOf: ReadonlyMap<string, number>;
  /** Tokens that are looked for in a text before all else, longest first. */
  readonly wholeTokens: readonly number[];
  readonly isEnd: (id: number) => boolean;
  /** Tokens that fill in the middle, those of the file before those known by their text. */
  readonly fillInMiddle: Readonly<Partial<Record<FillInMiddle, number>>>;
}

/** Tokens that end an answer in whatever model they are: llama.cpp's list (llama-vocab.cpp, MIT). */
const endTexts = new Set(
  (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> " +
    "<EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~["
  ).split(" "),
);

const fillInMiddleTexts: Readonly<Record<FillInMiddle, string>> = {
  prefix: "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> <|code_prefix|> <|prefix|>",
  suffix: "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> <|code_suffix|> <|suffix|>",
  middle: "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> <|code_middle|> <|middle|>",
  pad: "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
  repository: "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
  separator: "<|file_sep|>",
};
/** A model that writes one of these has left the answer for another file. */
const endingFillInMiddle: readonly FillInMiddle[] = ["pad", "repository", "separator"];

/** @throws SkeinError `invalid_model_file` */
export function createVocabulary(data: TokenizerData): Vocabulary {
  const { tokens, types } = data;
  const allIds = new Map(tokens.map((text, id) => [text, id]));
  if (allIds.size < tokens.length) throw brokenTokenizer("has the same token twice");
  const ends = new Set([data.eosId, ...data.endIds].filter((id) => id !== null));
  const special = new Set<number>();
  types.forEach((type, id) => {
    if (type === tokenTypes.control || type === tokenTypes.unknown) special.add(id);
  });
  for (const text of endTexts) {
    const id = allIds.get(text);
    if (id === undefined) continue;
    ends.add(id);
    special.add(id);
  }
  const fillInMiddle: Partial<Record<FillInMiddle, number>> = {};
  for (const [kind, texts] of Object.entries(fillInMiddleTexts) as [FillInMiddle, string][]) {
    const named = data.fillInMiddleIds[kind];
    const found = texts.split(" ").flatMap((text) => allIds.get(text) ?? [])[0];
    if (named === undefined && found !== undefined) special.add(found);
    const id = named ?? found;
    if (id !== undefined) fillInMiddle[kind] = id;
    if (id !== undefined && endingFillInMiddle.includes(kind)) ends.add(id);
  }
  return {
    data,
    isSpecial: (id) => special.has(id),
    isEnd: (id) => ends.has(id),
    fillInMiddle,
    idOf: new Map([...allIds].filter(([, id]) => !special.has(id) && types[id] !== tokenTypes.byte)),
    wholeTokens: wholeTokensOf(data, special),
  };
}

function wholeTokensOf({ tokens, types }: TokenizerData, special: ReadonlySet<number>): number[] {
  return tokens
    .flatMap((text, id) =>
      special.has(id) || types[id] === tokenTypes.userDefined ? [{ id, bytes: utf8(text).length }] : [],
    )
    .toSorted((a, b) => b.bytes - a.bytes)
    .map(({ id }) => id);
}

/** They are searched for sooner than a text's characters are looked at. */
const fewTokens = 512;

/** 1 for every character of a text: most whole tokens begin with one that most texts do not have. */
function charactersOf(text: string): Uint8Array {
  const characters = new Uint8Array(65_536);
  for (let i = 0; i < text.length; i++) characters[text.charCodeAt(i)] = 1;
  return characters;
}

/** A text and the whole tokens in it; ids, and what is left between them. */
export function partition(vocabulary: Vocabulary, text: string, parseSpecial: boolean): (string | number)[] {
  let parts: (string | number)[] = text === "" ? [] : [text];
  const characters = vocabulary.wholeTokens.length > fewTokens ? charactersOf(text) : null;
  for (const id of vocabulary.wholeTokens) {
    if (!parseSpecial && vocabulary.isSpecial(id)) continue;
    const token = vocabulary.data.tokens[id]!;
    if (characters?.[token.charCodeAt(0)] === 0) continue;
    if (!parts.some((part) => typeof part === "string" && part.includes(token))) continue;
    parts = parts.flatMap((part) => (typeof part === "string" ? around(part, token, id) : [part]));
  }
  return parts;
}

function around(text: string, token: string, id: number): (string | number)[] {
  return text.split(token).flatMap((part, i) => [...(i === 0 ? [] : [id]), ...(part === "" ? [] : [part])]);
}

const nothing = new Uint8Array(0);

/** The bytes that a token adds to an answer, as llama.cpp's `token_to_piece` has it, and the answer's marks. */
export function bytesOfToken({ data, isSpecial }: Vocabulary, id: number): Uint8Array {
  const text = data.tokens[id];
  if (text === undefined)
    throw new RangeError(`token ${id} is not in the vocabulary of ${data.tokens.length}`);
  if (isSpecial(id)) return answerMarks.has(text) ? utf8(text) : nothing;
  switch (data.types[id]) {
    case tokenTypes.userDefined:
      return utf8(text);
    case tokenTypes.normal:
      return data.model === "gpt2" ? bytesOfSpelling(text) : utf8(text.replaceAll("▁", " "));
    case tokenTypes.byte:
      return Uint8Array.of(Number.parseInt(text.slice(3, 5), 16));
    default:
      return nothing;
  }
}

/** Of the texts that tokens stand for. */
export function longestTokenBytes({ data, isSpecial }: Vocabulary): number {
  return data.tokens.reduce((longest, text, id) => {
    // The stand-ins of byte-level BPE are one character for each byte.
    const isSpelled = data.model === "gpt2" && data.types[id] === tokenTypes.normal && !isSpecial(id);
    return Math.max(longest, isSpelled || text.length * 3 <= longest ? text.length : utf8(text).length);
  }, 0);
}
