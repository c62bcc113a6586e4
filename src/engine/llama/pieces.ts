/**
 * Text of tokens, as llama.cpp's `token_to_piece` (llama-vocab.cpp, MIT) spells them. Its `detokenize`
 * cannot be used for streams: it deletes spaces before punctuation ("a ? b" becomes "a? b") for many
 * vocabularies, Llama 3's among them, and it turns the bytes of half a character into U+FFFD.
 */
import { answerMarks } from "../../protocol/answer-marks.ts";
import { concatBytes, utf8 } from "../../util/bytes.ts";
import type { PieceTable } from "../piece-decoder.ts";
import type { NativeModel } from "./binding.ts";

/** Numbers of llama.cpp's `llama_vocab_type`. */
const vocabulary = { spm: 1, bpe: 2, wpm: 3, ugm: 4 } as const;
/** Bits of llama.cpp's `llama_token_attr`. */
const attribute = { unknown: 1, normal: 4, control: 8, userDefined: 16, byte: 32 } as const;
const nothing = new Uint8Array(0);

export function createPieceTable(model: NativeModel): PieceTable {
  const type = model.getVocabularyType();
  const known = Object.values<number>(vocabulary).includes(type);
  const byteLevel = type === vocabulary.bpe && !usesMetaspace(model);
  const pieces: (Uint8Array | undefined)[] = [];
  const spell = (token: number): Uint8Array => {
    // Rare kinds (RWKV, PLaMo 2): llama.cpp's own spelling, token by token.
    if (!known) return utf8(model.detokenize(Uint32Array.of(token), false));
    const attributes = model.getTokenAttributes(token);
    const text = model.getTokenString(token) ?? "";
    if (attributes & (attribute.unknown | attribute.control))
      return answerMarks.has(text) ? utf8(text) : nothing;
    if (attributes & attribute.userDefined) return utf8(text);
    if (attributes & attribute.normal)
      return byteLevel ? fromByteLevel(text) : utf8(text.replaceAll("▁", " "));
    if (attributes & attribute.byte) return Uint8Array.of(Number.parseInt(text.slice(3, 5), 16));
    return nothing;
  };
  return (token) => (pieces[token] ??= spell(token));
}

/** Some BPE vocabularies (Gemma 4) write spaces as SentencePiece does instead of byte by byte. */
function usesMetaspace(model: NativeModel): boolean {
  const [first] = model.tokenize(" a", false);
  return first !== undefined && (model.getTokenString(first) ?? "").startsWith("▁");
}

/** The printable stand-ins of GPT-2's byte-level BPE (`bytes_to_unicode` in OpenAI's encoder.py, MIT). */
const byteOf = new Map<string, number>();
for (let byte = 0, next = 256; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  byteOf.set(String.fromCodePoint(printable ? byte : next++), byte);
}

function fromByteLevel(text: string): Uint8Array {
  return concatBytes(
    Array.from(text, (character) => {
      const byte = byteOf.get(character);
      return byte === undefined ? utf8(character) : Uint8Array.of(byte);
    }),
  );
}
