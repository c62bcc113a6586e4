/**
 * JSON Schema as a grammar: whatever the grammar allows, the schema allows (it may allow a little more: other orders
 * of properties, other spellings of numbers).
 */
import { SkeinError } from "../util/errors.ts";
import { either, GrammarWriter, literal, repeatMax, repeated } from "./grammar-writer.ts";
import { comma, jsonSpelling, JsonText } from "./json-text.ts";
import { numberGrammar } from "./json-number.ts";
import { type Child, objectGrammar } from "./json-object.ts";
import { areDisjoint, resolve } from "./schema-references.ts";
import { regexGrammar } from "./regex.ts";
import {
  countOf,
  invalid,
  isOfType,
  keywordsIn,
  keywordsOf,
  listOf,
  type Schema,
  type SchemaObject,
  type TypeName,
  typeNames,
  unsupported,
} from "./schema-keywords.ts";
import { fewValuesOf, noUniqueItems, uniqueItemsGrammar } from "./unique-items.ts";
import { stringFormats } from "./string-formats.ts";

const depthMax = 64;
/** Each length is a state, for which a mask of the whole vocabulary is made. */
const lengthMax = 256;
const propertiesMax = 5_000;
const enumValuesMax = 5_000;

/** @throws SkeinError `unsupported_parameter` naming a keyword, `invalid_request` */
export function jsonSchemaGrammar(schema: Schema): string {
  const writer = new GrammarWriter();
  return writer.text(schemaRules(new JsonText(writer), schema));
}

/** What matches the values that a schema allows, in a grammar that is being written. @throws SkeinError as `jsonSchemaGrammar` */
export function schemaRules(json: JsonText, schema: Schema): string {
  return new SchemaCompiler(json, schema).compile(schema, "", []);
}

class SchemaCompiler {
  readonly writer: GrammarWriter;
  readonly #json: JsonText;
  readonly #root: Schema;
  readonly #rules = new Map<string, string>();
  #depth = 0;
  #properties = 0;
  #enumValues = 0;

  constructor(json: JsonText, root: Schema) {
    this.writer = json.writer;
    this.#json = json;
    this.#root = root;
  }

  /** @param chain references since the last character that a value must have: one of them again would say nothing */
  compile(schema: Schema, path: string, chain: readonly string[]): string {
    this.#depth += 1;
    if (this.#depth > depthMax) throw invalid(path.slice(0, 100), `it is nested deeper than ${depthMax}`);
    const text = this.#compile(schema, path, chain);
    this.#depth -= 1;
    return text;
  }

  #compile(schema: Schema, path: string, chain: readonly string[]): string {
    if (schema === true) return this.#json.value;
    if (schema === false) throw invalid(path, "'false' allows no value at all");
    if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
      throw invalid(path, "it must be an object, true or false");
    }
    const keywords = keywordsIn(schema, path);
    const combining = keywords.find((keyword) => ["$ref", "anyOf", "oneOf", "allOf"].includes(keyword));
    if (combining !== undefined) {
      const other = keywords.find((keyword) => keyword !== combining);
      if (other !== undefined) throw unsupported(path, `'${other}' beside '${combining}' is not supported`);
      return this.#combined(schema, combining, path, chain);
    }
    if ("const" in schema) return this.#literals(schema, [schema["const"]], path);
    const values = listOf(schema, "enum", path);
    if (values !== null) return this.#literals(schema, values, path);
    const types = typesOf(schema, keywords, path);
    if (types === null) return this.#json.value;
    return either(types.map((type) => this.#typed(type, schema, path)));
  }

  #combined(schema: SchemaObject, keyword: string, path: string, chain: readonly string[]): string {
    const inside = path === "" ? keyword : `${path}.${keyword}`;
    if (keyword === "$ref") return this.#reference(schema["$ref"], inside, chain);
    const given = listOf(schema, keyword, path) as readonly Schema[];
    if (given.length === 0) throw invalid(inside, "it must not be empty");
    if (keyword === "allOf" && given.length > 1)
      throw unsupported(inside, "more than one schema is not supported");
    if (keyword === "oneOf") this.#requireDisjoint(given, inside);
    const alternatives = given.map((each, i) => this.compile(each, `${inside}.${i}`, chain));
    return either([...new Set(alternatives)]);
  }

  /** A grammar cannot count how many alternatives match. */
  #requireDisjoint(given: readonly Schema[], path: string): void {
    for (let i = 0; i < given.length; i++) {
      for (let j = i + 1; j < given.length; j++) {
        if (areDisjoint(this.#root, given[i]!, given[j]!)) continue;
        throw unsupported(path, `alternatives ${i} and ${j} may both match; 'anyOf' is supported`);
      }
    }
  }

  #reference(pointer: unknown, path: string, chain: readonly string[]): string {
    if (typeof pointer !== "string") throw invalid(path, "it must be a text");
    if (chain.includes(pointer)) throw invalid(path, "it refers to itself and nothing else");
    const known = this.#rules.get(pointer);
    if (known !== undefined) return known;
    const target = resolve(this.#root, pointer, path);
    const rule = this.writer.reserve();
    this.#rules.set(pointer, rule);
    this.writer.define(rule, this.compile(target, pointer.slice(0, 100), [...chain, pointer]));
    return rule;
  }

  #literals(schema: SchemaObject, values: readonly unknown[], path: string): string {
    const types = schema["type"] === undefined ? null : typesOf(schema, ["type"], path);
    const fitting = values.filter((value) => types === null || types.some((type) => isOfType(value, type)));
    if (fitting.length === 0)
      throw invalid(path, "no value of 'enum' or 'const' is allowed by 'type', or there is none");
    const others = Object.keys(schema).filter((key) => Object.values(keywordsOf).flat().includes(key));
    if (others.length > 0)
      throw unsupported(path, `'${others[0]}' beside 'enum' or 'const' is not supported`);
    this.#enumValues += fitting.length;
    if (this.#enumValues > enumValuesMax) throw invalid(path, `more than ${enumValuesMax} values in 'enum'`);
    return this.writer.rule(fitting.map((value) => literal(JSON.stringify(value))).join(" | "));
  }

  #typed(type: TypeName, schema: SchemaObject, path: string): string {
    switch (type) {
      case "null":
        return '"null"';
      case "boolean":
        return '("true" | "false")';
      case "string":
        return this.#string(schema, path);
      case "integer":
      case "number":
        return numberGrammar(this.writer, type, schema, path) ?? this.#json[type];
      case "array":
        return this.#array(schema, path);
      case "object":
        return objectGrammar(this.#json, schema, path, (child) => this.#child(child));
    }
  }

  #child({ schema, path }: Child): string {
    this.#properties += 1;
    if (this.#properties > propertiesMax) throw invalid(path, `more than ${propertiesMax} properties`);
    return this.compile(schema, path, []);
  }

  #string(schema: SchemaObject, path: string): string {
    const { pattern, format } = schema;
    const min = countOf(schema, "minLength", path) ?? 0;
    const max = countOf(schema, "maxLength", path);
    if (pattern !== undefined || format !== undefined) {
      if (min > 0 || max !== null) {
        throw unsupported(path, "'minLength' and 'maxLength' beside 'pattern' or 'format' are not supported");
      }
      return this.writer.rule(`"\\"" ${patternOf(pattern, format, path)} "\\""`);
    }
    if (min === 0 && max === null) return this.#json.string;
    if (Math.max(min, max ?? 0) > lengthMax) {
      throw unsupported(path, `'minLength' and 'maxLength' above ${lengthMax} are not supported`);
    }
    const [least, most] = boundsOf(min, max, path, "Length");
    return this.#json.stringOf(least, most);
  }

  #array(schema: SchemaObject, path: string): string {
    const first = (listOf(schema, "prefixItems", path) ?? []) as readonly Schema[];
    const items = (schema["items"] ?? true) as Schema;
    const [min, max] = boundsOf(
      countOf(schema, "minItems", path) ?? 0,
      countOf(schema, "maxItems", path),
      path,
      "Items",
    );
    const inside = path === "" ? "" : `${path}.`;
    const most = items === false ? Math.min(max ?? first.length, first.length) : max;
    if (most !== null && most < min) throw invalid(path, "'minItems' asks for more items than there may be");
    if (schema["uniqueItems"] === true && (most === null || most > 1)) {
      const values = first.length > 0 ? null : fewValuesOf(items);
      if (values === null) throw noUniqueItems(path);
      return uniqueItemsGrammar(this.writer, values, { min, max: most, path });
    }
    const listed = first.slice(0, most ?? first.length).map((each, i) => {
      return this.#child({ schema: each, path: `${inside}prefixItems.${i}` });
    });
    let rest = "";
    if (items !== false && (most === null || most > listed.length)) {
      const item = this.#child({ schema: items, path: `${inside}items` });
      const left = most === null ? null : most - listed.length;
      rest = itemsAfter(item, listed.length, Math.max(0, min - listed.length), left);
    }
    // From behind: what follows an item comes only where it is there.
    const text = listed.reduceRight((behind, item, i) => {
      const own = `${i === 0 ? "" : `${comma} `}${item} ${behind}`;
      return i < min ? own : `(${own})?`;
    }, rest);
    return this.writer.rule(text === "" ? '"[" "]"' : `"[" ${text} "]"`);
  }
}

/** Items of the same kind behind `before` others. */
function itemsAfter(item: string, before: number, min: number, max: number | null): string {
  const further = `(${comma} ${item})`;
  if (before > 0) return repeated(further, min, max);
  const more = repeated(further, Math.max(0, min - 1), max === null ? null : max - 1);
  return min === 0 ? `(${item} ${more})?` : `${item} ${more}`;
}

function boundsOf(min: number, max: number | null, path: string, what: string): [number, number | null] {
  if (min > repeatMax) throw unsupported(path, `'min${what}' above ${repeatMax} is not supported`);
  if (max !== null && max < min) throw invalid(path, `'max${what}' is below 'min${what}'`);
  return [min, max === null ? null : Math.min(max, repeatMax)];
}

/** Validators' libraries give both: the pattern says more, the format is there for those that cannot read it. */
function patternOf(pattern: unknown, format: unknown, path: string): string {
  const known = format === undefined ? null : formatOf(format, path);
  if (pattern === undefined) return regexGrammar(known!, jsonSpelling);
  if (typeof pattern !== "string") throw invalid(path, "'pattern' must be a text");
  try {
    return regexGrammar(pattern, jsonSpelling);
  } catch (error) {
    if (known !== null) return regexGrammar(known, jsonSpelling);
    if (!(error instanceof SkeinError)) throw error;
    throw new SkeinError(error.code, `${error.message.slice(0, -1)} (at '${path.slice(-200)}').`);
  }
}

function formatOf(format: unknown, path: string): string {
  if (typeof format === "string" && Object.hasOwn(stringFormats, format)) return stringFormats[format]!;
  throw unsupported(path, `the format ${JSON.stringify(format).slice(0, 50)} is not supported`);
}

/** Null: any type. */
function typesOf(schema: SchemaObject, keywords: readonly string[], path: string): TypeName[] | null {
  const { type } = schema;
  if (type === undefined) {
    const implied = typeNames.filter((name) =>
      keywordsOf[name].some((keyword) => keywords.includes(keyword)),
    );
    if (implied.length === 0) return null;
    return implied.includes("number") ? implied.filter((name) => name !== "integer") : implied;
  }
  const given = Array.isArray(type) ? type : [type];
  const unknown = given.find((name) => !typeNames.includes(name as TypeName));
  if (unknown !== undefined || given.length === 0) {
    throw invalid(path, `'type' must be ${typeNames.join(", ")}, or a list of them`);
  }
  return [...new Set(given as TypeName[])];
}
