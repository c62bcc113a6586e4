/** The printable stand-ins of GPT-2's byte-level BPE (`bytes_to_unicode` in OpenAI's encoder.py, MIT). */
import { concatBytes, utf8 } from "../../util/bytes.ts";

export const characterOfByte: readonly string[] = standIns();
const byteOfCharacter = new Map(characterOfByte.map((character, byte) => [character, byte]));

function standIns(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : next++);
  });
}

/** The bytes that a token's spelling stands for; other characters stand for themselves. */
export function bytesOfSpelling(spelling: string): Uint8Array {
  return concatBytes(
    Array.from(spelling, (character) => {
      const byte = byteOfCharacter.get(character);
      return byte === undefined ? utf8(character) : Uint8Array.of(byte);
    }),
  );
}
