/** Lists of different values, where there are few to choose from: a state for each choice of those that are used. */
import { type GrammarWriter, literal } from "./grammar-writer.ts";
import { comma } from "./json-text.ts";
import { invalid, isOfType, type Schema, type TypeName, unsupported } from "./schema-keywords.ts";
import type { SkeinError } from "../util/errors.ts";

/** Of so many values 2^8 choices. */
const valuesMax = 8;

/** The values of a schema that lists them, as JSON; null: it does not, or they are too many. */
export function fewValuesOf(schema: Schema): string[] | null {
  if (typeof schema !== "object") return null;
  const keywords = Object.keys(schema).filter((keyword) => !["title", "description"].includes(keyword));
  const isOnly = (...names: string[]): boolean => keywords.every((keyword) => names.includes(keyword));
  if (schema["type"] === "boolean" && isOnly("type")) return ["true", "false"];
  const listed: unknown = "const" in schema ? [schema["const"]] : schema["enum"];
  const types = [schema["type"] ?? []].flat() as TypeName[];
  if (!Array.isArray(listed) || (!isOnly("type", "enum") && !isOnly("type", "const"))) return null;
  const given =
    types.length === 0 ? listed : listed.filter((value) => types.some((type) => isOfType(value, type)));
  // Of objects the same one may be written in several ways.
  if (given.some((value) => typeof value === "object" && value !== null)) return null;
  const values = [...new Set(given.map((value) => JSON.stringify(value)))];
  return values.length <= valuesMax ? values : null;
}

export function noUniqueItems(path: string): SkeinError {
  return unsupported(
    path,
    `'uniqueItems' is only supported for 'items' with an 'enum' of at most ${valuesMax} texts and numbers`,
  );
}

/** @param values as JSON. @throws SkeinError `invalid_request` */
export function uniqueItemsGrammar(
  writer: GrammarWriter,
  values: readonly string[],
  { min, max, path }: { readonly min: number; readonly max: number | null; readonly path: string },
): string {
  const most = Math.min(max ?? values.length, values.length);
  if (min > most) throw invalid(path, "'minItems' asks for more different items than there are");
  const after = (used: ReadonlySet<string>): string => {
    const alternatives = used.size >= min ? ['"]"'] : [];
    for (const value of used.size < most ? values : []) {
      if (used.has(value)) continue;
      const separator = used.size === 0 ? "" : `${comma} `;
      alternatives.push(`${separator}${literal(value)} ${known(new Set([...used, value]))}`);
    }
    return writer.rule(alternatives.join(" | "));
  };
  const rules = new Map<string, string>();
  const known = (used: ReadonlySet<string>): string => {
    const key = values.filter((value) => used.has(value)).join();
    const rule = rules.get(key) ?? after(used);
    rules.set(key, rule);
    return rule;
  };
  return writer.rule(`"[" ${known(new Set())}`);
}
