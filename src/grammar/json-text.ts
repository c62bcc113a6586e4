/**
 * JSON as grammar rules (RFC 8259), with bounds where a model could go on for ever without saying anything: white space,
 * digits. Texts are valid UTF-8, and `\u` escapes never half a character.
 */
import { characterClass, characterClasses } from "./character-class.ts";
import { type CharacterSet, characters, complement, intersection, setOf } from "./character-set.ts";
import { either, type GrammarWriter, literal } from "./grammar-writer.ts";

const controls: CharacterSet = [[0, 0x1f]];
/** What stands for itself between the quotes. */
const plain = complement(setOf([...controls, ...characters('"\\')]));
const escapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};
const hex = "[0-9a-fA-F]";
/** Digits of a number before the point: doubles hold no more. */
const integerDigitsMax = 15;
export const fractionDigitsMax = 15;
/** Exponents of two digits stay far from infinity. */
const exponentDigitsMax = 2;

/** Between a name and its value, and between values: one way to write it, so that a model cannot dwell on white space. */
export const colon = ": ";
export const comma = '", "';

/** Any character of a set, as JSON spells it: escaped only where it must be. Null for the empty set. */
export function jsonSpelling(set: CharacterSet): string | null {
  const unescaped = intersection(set, plain);
  const others = intersection(set, complement(plain)).flatMap(([low, high]) =>
    Array.from({ length: high - low + 1 }, (_, i) => String.fromCodePoint(low + i)),
  );
  const spelt = others.map((character) =>
    literal(escapes[character] ?? JSON.stringify(character).slice(1, -1)),
  );
  const alternatives = [...(unescaped.length > 0 ? [characterClass(unescaped)] : []), ...spelt];
  return alternatives.length === 0 ? null : either(alternatives);
}

/** Any value, and the rules of its parts, each written once. */
export class JsonText {
  readonly writer: GrammarWriter;
  #tail: string | null = null;
  #value: string | null = null;

  constructor(writer: GrammarWriter) {
    this.writer = writer;
  }

  get string(): string {
    return `"\\"" ${this.#stringTail()}`;
  }

  /** Lengths count code points. Each more is a rule more. */
  stringOf(min: number, max: number | null): string {
    let rest = max === null ? this.#stringTail() : '"\\""';
    for (let length = (max ?? min) - 1; length >= 0; length--) {
      const ends = length >= min ? ['"\\""'] : [];
      rest = this.writer.rule([...ends, ...beforeRest(rest)].join(" | "));
    }
    return `"\\"" ${rest}`;
  }

  get integer(): string {
    return this.writer.rule(`"0" | "-"? [1-9] [0-9]{0,${integerDigitsMax - 1}}`);
  }

  get number(): string {
    return this.writer.rule(
      `"-"? ("0" | [1-9] [0-9]{0,${integerDigitsMax - 1}}) ("." [0-9]{1,${fractionDigitsMax}})? ` +
        `([eE] [\\u002b\\u002d]? [0-9]{1,${exponentDigitsMax}})?`,
    );
  }

  get value(): string {
    if (this.#value !== null) return this.#value;
    const value = (this.#value = this.writer.reserve());
    const member = this.writer.rule(`${this.string} "${colon}" ${value}`);
    const listOf = (open: string, item: string, close: string): string =>
      `"${open}" (${item} (${comma} ${item})*)? "${close}"`;
    const words = ['"true"', '"false"', '"null"'];
    const alternatives = [
      this.string,
      this.number,
      listOf("{", member, "}"),
      listOf("[", value, "]"),
      ...words,
    ];
    this.writer.define(value, alternatives.join(" | "));
    return value;
  }

  /** Characters up to the closing quote. */
  #stringTail(): string {
    if (this.#tail !== null) return this.#tail;
    this.#tail = this.writer.reserve();
    this.writer.define(this.#tail, ['"\\""', ...beforeRest(this.#tail)].join(" | "));
    return this.#tail;
  }
}

/** One character, plain or escaped, and then `rest`: by recursion, which costs masks far less than repeating a choice. */
function beforeRest(rest: string): string[] {
  return [
    ...characterClasses(plain),
    '"\\\\" [\\u0022\\u005c\\u002fbfnrt]',
    `"\\\\u" [0-9abcefABCEF] ${hex} ${hex} ${hex}`,
    `"\\\\u" [dD] [0-7] ${hex} ${hex}`,
    `"\\\\u" [dD] [89abAB] ${hex} ${hex} "\\\\u" [dD] [c-fC-F] ${hex} ${hex}`,
  ].map((character) => `${character} ${rest}`);
}
