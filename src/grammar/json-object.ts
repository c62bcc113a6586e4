import { characterClass } from "./character-class.ts";
import { type CharacterSet, characters, complement, intersection, setOf } from "./character-set.ts";
import { type GrammarWriter, literal } from "./grammar-writer.ts";
import { colon, comma, type JsonText } from "./json-text.ts";
import { invalid, listOf, type Schema, type SchemaObject } from "./schema-keywords.ts";

/** A schema inside another one. */
export interface Child {
  readonly schema: Schema;
  readonly path: string;
}

interface Member {
  readonly text: string;
  readonly isRequired: boolean;
}

/**
 * Properties come in the schema's order; those that are not required may be left out. Others come only where
 * `additionalProperties` asks for them, or where no property is named at all.
 */
export function objectGrammar(
  { writer }: JsonText,
  schema: SchemaObject,
  path: string,
  compile: (child: Child) => string,
): string {
  const inside = path === "" ? "" : `${path}.`;
  const properties = propertiesOf(schema, path);
  const required = new Set(listOf(schema, "required", path) ?? []);
  const additional = (schema["additionalProperties"] ??
    (properties.size === 0 && required.size === 0)) as Schema;
  for (const name of required) {
    if (typeof name !== "string") throw invalid(path, "'required' must be a list of names");
    if (properties.has(name)) continue;
    if (schema["additionalProperties"] === false)
      throw invalid(path, `'${name.slice(0, 50)}' is required, but not allowed`);
    properties.set(name, schema["additionalProperties"] === undefined ? true : additional);
  }
  const member = (name: string, value: string): string =>
    writer.rule(`${literal(JSON.stringify(name) + colon)} ${value}`);
  const members = [...properties].map(([name, each]): Member => {
    const value = compile({ schema: each, path: `${inside}properties.${name}` });
    return { text: member(name, value), isRequired: required.has(name) };
  });
  let other: string | null = null;
  if (additional !== false) {
    const value = compile({ schema: additional, path: `${inside}additionalProperties` });
    other = writer.rule(`${otherName(writer, [...properties.keys()])} "${colon}" ${value}`);
  }
  return writer.rule(membersGrammar(writer, members, other));
}

function propertiesOf(schema: SchemaObject, path: string): Map<string, Schema> {
  const given = schema["properties"];
  if (given === undefined) return new Map();
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw invalid(path, "'properties' must be an object");
  }
  return new Map(Object.entries(given as Record<string, Schema>));
}

/** From behind: `after` is what follows when a member came already, `first` when none did. */
function membersGrammar(writer: GrammarWriter, members: readonly Member[], other: string | null): string {
  let after = other === null ? '"}"' : writer.rule(`(${comma} ${other})* "}"`);
  let first = other === null ? '"}"' : `("}" | ${other} ${after})`;
  for (const { text, isRequired } of members.toReversed()) {
    const [next, nextFirst] = [after, first];
    after = `${comma} ${text} ${next}`;
    first = `${text} ${next}`;
    if (isRequired) continue;
    after = writer.rule(`${after} | ${next}`);
    first = `(${first} | ${nextFirst})`;
    // Referred to from two places: as rules they stay short.
    first = writer.rule(first);
  }
  return `"{" ${first}`;
}

/** No escapes, by which a known name could come in disguise. */
const plain: CharacterSet = complement(setOf([[0, 0x1f], ...characters('"\\')]));

/** A name in quotes that is none of `names`. */
function otherName(writer: GrammarWriter, names: readonly string[]): string {
  const anything = `${characterClass(plain)}*`;
  const from = (ends: readonly (readonly string[])[]): string => {
    const isName = ends.some((rest) => rest.length === 0);
    const next = new Map<string, (readonly string[])[]>();
    for (const [head, ...rest] of ends) {
      if (head !== undefined) next.set(head, [...(next.get(head) ?? []), rest]);
    }
    const others = intersection(plain, complement(characters([...next.keys()].join(""))));
    const alternatives = [`${characterClass(others)} ${anything} "\\""`];
    if (!isName) alternatives.push('"\\""');
    for (const [head, rests] of next) {
      if (intersection(plain, characters(head)).length > 0)
        alternatives.push(`${literal(head)} ${from(rests)}`);
    }
    return writer.rule(alternatives.join(" | "));
  };
  return `"\\"" ${from(names.map((name) => Array.from(name)))}`;
}
