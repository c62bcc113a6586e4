/**
 * What is signed is SHA-256 over words of 32 bytes, as `abi.encodePacked` of `uint256` and `bytes32` lays them out: a contract can
 * build the same digest. Numbers are big-endian, texts and lists are hashed to one word.
 */
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { type Bytes, concatBytes, utf8 } from "../util/bytes.ts";

export const wordBytes = 32;
export const zeroWord: Uint8Array = new Uint8Array(wordBytes);

/** The name of what is signed, as a `bytes32` literal: ASCII, padded with zeros. Nothing of one kind passes for another. */
export function domainWord(name: string): Bytes {
  const word = new Uint8Array(wordBytes);
  word.set(utf8(name));
  return word;
}

/** @throws RangeError unless it is a whole number from 0 to 2^64 − 1 */
export function numberWord(value: number | bigint): Bytes {
  const word = new Uint8Array(wordBytes);
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new RangeError(`not a whole number: ${value}`);
  }
  const whole = BigInt(value);
  if (whole < 0n || whole >= 1n << 64n) throw new RangeError(`does not fit a word of a receipt: ${value}`);
  new DataView(word.buffer).setBigUint64(wordBytes - 8, whole);
  return word;
}

/** A number that may have a fraction: the 64 bits of its IEEE 754 double. */
export function doubleWord(value: number): Bytes {
  const word = new Uint8Array(wordBytes);
  // −0 and 0 ask for the same.
  new DataView(word.buffer).setFloat64(wordBytes - 8, value === 0 ? 0 : value);
  return word;
}

/** A hash, or zeros where there is none. */
export function hashWord(hash: Uint8Array | null): Uint8Array {
  if (hash === null) return zeroWord;
  if (hash.length !== wordBytes) throw new RangeError(`a hash has ${wordBytes} bytes, not ${hash.length}`);
  return hash;
}

/** SHA-256 of a text in UTF-8. */
export function textHash(sha256: Sha256, text: string): Uint8Array {
  return sha256(utf8(text));
}

/** SHA-256 of token ids, 32 bits each, big-endian. */
export function tokensHash(sha256: Sha256, tokenIds: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * tokenIds.length);
  const view = new DataView(bytes.buffer);
  for (const [i, id] of tokenIds.entries()) view.setUint32(4 * i, id);
  return sha256(bytes);
}

export function digestOf(sha256: Sha256, words: readonly Uint8Array[]): Uint8Array {
  return sha256(concatBytes(words));
}
