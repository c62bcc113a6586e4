/**
 * Text to tokens and back, as llama.cpp does it to the last token: the exact engine and the llama engine must read
 * the same prompt in the same way.
 */
import { concatBytes } from "../../util/bytes.ts";
import { createBytePairEncoder } from "./bpe.ts";
import type { TokenizerData } from "./data.ts";
import { createSentencePieceEncoder } from "./sentence-piece.ts";
import { bytesOfToken, createVocabulary, longestTokenBytes, partition } from "./vocabulary.ts";

export interface EncodeOptions {
  /** Whether texts of special tokens become these tokens. Never for what a user wrote. */
  readonly parseSpecial: boolean;
  /** Whether the beginning-of-text token is put in front where the model wants one, unless it is there. */
  readonly addSpecial: boolean;
}

/** A piece of a rendered chat. Only what the template itself wrote is `special`. */
export interface TextPiece {
  readonly text: string;
  readonly special: boolean;
}

export interface ExactTokenizer {
  readonly vocabularySize: number;
  /**
   * No token stands for more bytes of text. A megabyte takes up to half a second: texts that are too long for the
   * model anyway should be refused before.
   */
  readonly tokenBytesMax: number;
  encode(text: string, options: EncodeOptions): number[];
  /** The prompt of a chat, from the pieces that its template was rendered to. */
  encodePieces(pieces: readonly TextPiece[]): number[];
  /** Text without special tokens that goes on where other tokens stopped. */
  encodeContinuation(text: string): number[];
  /**
   * The bytes that a token adds to an answer: parts of characters, and nothing for special tokens.
   * @throws RangeError for an id that is not in the vocabulary
   */
  tokenBytes(id: number): Uint8Array;
  isEndOfGeneration(id: number): boolean;
  /** Texts that become one special token where special tokens are parsed. */
  specialTexts(): string[];
  /** Texts of the special tokens around a text whose middle is wanted; null: the model has none. */
  infillTexts(): Record<"prefix" | "suffix" | "middle", string> | null;
  /** What the tokens add to an answer; bytes that are not UTF-8 become U+FFFD. @throws RangeError */
  decode(ids: readonly number[]): string;
}

/** @throws SkeinError `invalid_model_file` */
export function createTokenizer(data: TokenizerData): ExactTokenizer {
  const vocabulary = createVocabulary(data);
  const encodeText =
    data.model === "gpt2" ? createBytePairEncoder(vocabulary) : createSentencePieceEncoder(vocabulary);
  const utf8Decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const bytesOf: (Uint8Array | undefined)[] = [];

  function append(text: string, parseSpecial: boolean, startsText: boolean, output: number[]): void {
    let hasPrefix = data.addSpacePrefix && startsText;
    // Halves of surrogate pairs cannot become UTF-8.
    for (const part of partition(vocabulary, text.toWellFormed(), parseSpecial)) {
      if (typeof part === "string") encodeText(part, hasPrefix, output);
      else output.push(part);
      hasPrefix = data.addSpacePrefix && typeof part === "number";
    }
  }

  function withBos(tokens: number[]): number[] {
    const { addBos, bosId } = data;
    return addBos && bosId !== null && tokens[0] !== bosId ? [bosId, ...tokens] : tokens;
  }

  const tokenBytes = (id: number): Uint8Array => (bytesOf[id] ??= bytesOfToken(vocabulary, id));
  return {
    vocabularySize: data.tokens.length,
    tokenBytesMax: longestTokenBytes(vocabulary),
    encode(text, { parseSpecial, addSpecial }) {
      const output: number[] = [];
      append(text, parseSpecial, true, output);
      return addSpecial ? withBos(output) : output;
    },
    encodePieces(pieces) {
      const output: number[] = [];
      for (const [i, { text, special }] of pieces.entries()) {
        append(text, special, i === 0 || special || startsAnew(text), output);
      }
      return withBos(output);
    },
    encodeContinuation(text) {
      const output: number[] = [];
      append(text, false, startsAnew(text), output);
      return output;
    },
    tokenBytes,
    isEndOfGeneration: (id) => vocabulary.isEnd(id),
    specialTexts: () => data.tokens.filter((_, id) => vocabulary.isSpecial(id)),
    infillTexts() {
      const textOf = (kind: "prefix" | "suffix" | "middle"): string | null => {
        const id = vocabulary.fillInMiddle[kind];
        return id !== undefined && vocabulary.wholeTokens.includes(id) ? data.tokens[id]! : null;
      };
      const [prefix, suffix, middle] = [textOf("prefix"), textOf("suffix"), textOf("middle")];
      return prefix === null || suffix === null || middle === null ? null : { prefix, suffix, middle };
    },
    decode: (ids) => utf8Decoder.decode(concatBytes(ids.map(tokenBytes))),
  };
}

/** Only because the llama engine's library takes it so. */
function startsAnew(continuation: string): boolean {
  return continuation.startsWith("\n");
}
