/**
 * JSON as grammar rules (RFC 8259), with bounds where a model could go on for ever without saying anything: white space,
 * digits. Texts are valid UTF-8, and `\u` escapes never half a character.
 */
import { characterClass } from "./character-class.ts";
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

/** Between values: nothing, a space, or a new line with its indentation. */
export function whiteSpace(writer: GrammarWriter): string {
  return writer.rule('(" " | "\\n" [ \\t]{0,32})?');
}

/** After a property's name. */
export const colon = '":" " "?';

/** One character inside a JSON text, spelt plainly or as an escape. */
export function jsonCharacter(writer: GrammarWriter): string {
  const unit = writer.rule(
    either([
      `([0-9abcefABCEF] ${hex} | [dD] [0-7]) ${hex} ${hex}`,
      `[dD] [89abAB] ${hex} ${hex} "\\\\u" [dD] [c-fC-F] ${hex} ${hex}`,
    ]),
  );
  return writer.rule(either([characterClass(plain), `"\\\\" ([\\u0022\\u005c\\u002fbfnrt] | "u" ${unit})`]));
}

export function jsonString(writer: GrammarWriter): string {
  return writer.rule(`"\\"" ${jsonCharacter(writer)}* "\\""`);
}

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

export function jsonInteger(writer: GrammarWriter): string {
  return writer.rule(either(['"0"', `"-"? [1-9] [0-9]{0,${integerDigitsMax - 1}}`]));
}

export function jsonNumber(writer: GrammarWriter): string {
  return writer.rule(
    `"-"? ("0" | [1-9] [0-9]{0,${integerDigitsMax - 1}}) ("." [0-9]{1,${fractionDigitsMax}})? ` +
      `([eE] [\\u002b\\u002d]? [0-9]{1,${exponentDigitsMax}})?`,
  );
}

/** Every value that JSON has. */
export function jsonValue(writer: GrammarWriter): string {
  const existing = values.get(writer);
  if (existing !== undefined) return existing;
  const value = writer.reserve();
  values.set(writer, value);
  const ws = whiteSpace(writer);
  const member = writer.rule(`${jsonString(writer)} ${colon} ${value}`);
  const listOf = (open: string, item: string, close: string): string =>
    `${open} (${ws} ${item} ("," ${ws} ${item})* ${ws})? ${close}`;
  const words = ['"true"', '"false"', '"null"'];
  writer.define(
    value,
    [
      jsonString(writer),
      jsonNumber(writer),
      listOf('"{"', member, '"}"'),
      listOf('"["', value, '"]"'),
      ...words,
    ].join(" | "),
  );
  return value;
}

/** `jsonValue` refers to itself, so that its rule cannot be found by its text. */
const values = new WeakMap<GrammarWriter, string>();
