/** What of JSON Schema (draft 2020-12) is understood, and what is said of the rest. */
import { SkeinError } from "../util/errors.ts";

export type Schema = boolean | { readonly [keyword: string]: unknown };
export type SchemaObject = Exclude<Schema, boolean>;

export const typeNames = ["object", "array", "string", "number", "integer", "boolean", "null"] as const;
export type TypeName = (typeof typeNames)[number];

/** They describe, and allow or forbid nothing. */
const annotations = new Set([
  "title",
  "description",
  "default",
  "examples",
  "example",
  "$schema",
  "$id",
  "$comment",
  "$defs",
  "definitions",
  "deprecated",
  "readOnly",
  "writeOnly",
  "nullable",
]);

/** The keywords of each type; of other types' values they say nothing. */
export const keywordsOf: Readonly<Record<TypeName, readonly string[]>> = {
  object: ["properties", "required", "additionalProperties"],
  array: ["items", "prefixItems", "minItems", "maxItems", "uniqueItems"],
  string: ["minLength", "maxLength", "pattern", "format"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  boolean: [],
  null: [],
};
const supported = new Set([
  ...Object.values(keywordsOf).flat(),
  "type",
  "enum",
  "const",
  "$ref",
  "anyOf",
  "oneOf",
  "allOf",
]);
/** Values with which a keyword asks for nothing. */
const neutral: Readonly<Record<string, unknown>> = { uniqueItems: false, minProperties: 0, minContains: 0 };

/** The keywords that count. @throws SkeinError `unsupported_parameter` naming one that is not supported */
export function keywordsIn(schema: SchemaObject, path: string): string[] {
  const keywords = Object.keys(schema).filter((keyword) => !annotations.has(keyword));
  return keywords.filter((keyword) => {
    if (Object.hasOwn(neutral, keyword) && neutral[keyword] === schema[keyword]) return false;
    if (supported.has(keyword)) return true;
    throw unsupported(path, `'${keyword.slice(0, 50)}' is not supported`);
  });
}

export function unsupported(path: string, what: string): SkeinError {
  return new SkeinError("unsupported_parameter", `The schema${at(path)}: ${what}.`, {
    hint: "docs/API.md lists the keywords that are.",
  });
}

export function invalid(path: string, what: string): SkeinError {
  return new SkeinError("invalid_request", `The schema${at(path)}: ${what}.`);
}

function at(path: string): string {
  if (path === "") return "";
  return ` at '${path.length > 200 ? `…${path.slice(-200)}` : path}'`;
}

/** A keyword's count. @throws SkeinError `invalid_request` */
export function countOf(schema: SchemaObject, keyword: string, path: string): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw invalid(path, `'${keyword}' must be a count`);
}

/** A keyword's list. @throws SkeinError `invalid_request` */
export function listOf(schema: SchemaObject, keyword: string, path: string): readonly unknown[] | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (Array.isArray(value)) return value;
  throw invalid(path, `'${keyword}' must be a list`);
}

export function isOfType(value: unknown, type: TypeName): boolean {
  if (value === null) return type === "null";
  if (Array.isArray(value)) return type === "array";
  if (type === "integer") return Number.isInteger(value);
  return typeof value === type;
}
