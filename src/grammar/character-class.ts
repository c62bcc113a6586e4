import type { CharacterSet } from "./character-set.ts";
import { either } from "./grammar-writer.ts";

/**
 * One character of a set, byte by byte: XGrammar 0.1.27 takes what stands in a class for bytes, not for code points.
 * (The ranges of UTF-8 sequences are found as Ken Thompson's grep did.)
 */
export function characterClass(set: CharacterSet): string {
  return either(characterClasses(set));
}

/** As alternatives: one for all of ASCII, others for longer sequences. */
export function characterClasses(set: CharacterSet): string[] {
  const ascii: Range[] = [];
  const longer: string[] = [];
  for (const bytes of set.flatMap(([low, high]) => byteRanges(low, high))) {
    if (bytes.length === 1) ascii.push(bytes[0]!);
    else longer.push(bytes.map((range) => byteClass([range])).join(" "));
  }
  return [...(ascii.length > 0 ? [byteClass(ascii)] : []), ...longer];
}

type Range = readonly [number, number];

/** A single one twice: alone it would be taken for the character of that number. */
function byteClass(ranges: readonly Range[]): string {
  const text = ranges.map(([low, high]) =>
    low < 0x80 && low === high
      ? escaped(low)
      : low === high
        ? escaped(low).repeat(2)
        : `${escaped(low)}-${escaped(high)}`,
  );
  return `[${text.join("")}]`;
}

function escaped(byte: number): string {
  const character = String.fromCharCode(byte);
  return /[0-9A-Za-z]/.test(character) ? character : `\\u${byte.toString(16).padStart(4, "0")}`;
}

/** Last code points of one, two, three and four bytes. */
const lengthEnds = [0x7f, 0x7ff, 0xffff, 0x10ffff];

/** Sequences of byte ranges that together are the UTF-8 of all code points from `low` to `high`. */
function byteRanges(low: number, high: number): Range[][] {
  const end = lengthEnds.find((each) => low <= each)!;
  if (high > end) return [...byteRanges(low, end), ...byteRanges(end + 1, high)];
  const length = lengthEnds.indexOf(end) + 1;
  for (let i = 1; i < length; i++) {
    const rest = 2 ** (6 * i) - 1;
    if (Math.floor(low / (rest + 1)) === Math.floor(high / (rest + 1))) continue;
    const split =
      (low & rest) !== 0 ? (low | rest) + 1 : (high & rest) !== rest ? high - (high & rest) : null;
    if (split !== null) return [...byteRanges(low, split - 1), ...byteRanges(split, high)];
  }
  const [first, last] = [utf8Of(low), utf8Of(high)];
  return [Array.from(first, (byte, i): Range => [byte, last[i]!])];
}

const encoder = new TextEncoder();

function utf8Of(codePoint: number): Uint8Array {
  return encoder.encode(String.fromCodePoint(codePoint));
}
