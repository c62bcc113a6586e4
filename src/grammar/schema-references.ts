import { invalid, type Schema, type SchemaObject, typeNames, unsupported } from "./schema-keywords.ts";

/** The schema that a local reference points to (RFC 6901). @throws SkeinError */
export function resolve(root: Schema, pointer: string, path: string): Schema {
  if (pointer !== "#" && !pointer.startsWith("#/")) {
    throw unsupported(path, "only references within the schema ('#/$defs/…') are supported");
  }
  let target: unknown = root;
  for (const step of pointer.split("/").slice(1)) {
    const key = decoded(step).replaceAll("~1", "/").replaceAll("~0", "~");
    target =
      typeof target === "object" && target !== null && Object.hasOwn(target, key)
        ? Object(target)[key]
        : undefined;
  }
  if (target === undefined) throw invalid(path, `'${pointer.slice(0, 100)}' is not there`);
  return target as Schema;
}

function decoded(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

/** Whether certainly no value matches both. */
export function areDisjoint(root: Schema, a: Schema, b: Schema): boolean {
  const [first, second] = [followed(root, a), followed(root, b)];
  if (first === null || second === null) return false;
  const [types, otherTypes] = [typesOf(first), typesOf(second)];
  if (types.every((type) => !otherTypes.includes(type))) return true;
  const [values, otherValues] = [valuesOf(first), valuesOf(second)];
  if (values !== null && otherValues !== null) return values.every((value) => !otherValues.includes(value));
  // Objects that a property tells apart.
  const isObject = types.join() === "object" && otherTypes.join() === "object";
  const shared = namesOf(first).filter((name) => namesOf(second).includes(name));
  return isObject && shared.some((name) => areApart(root, propertyOf(first, name), propertyOf(second, name)));
}

function areApart(root: Schema, a: Schema, b: Schema): boolean {
  const [first, second] = [followed(root, a), followed(root, b)];
  const [values, others] = [first && valuesOf(first), second && valuesOf(second)];
  return values != null && others != null && values.every((value) => !others.includes(value));
}

/** Required ones. */
function namesOf({ required }: SchemaObject): readonly unknown[] {
  return Array.isArray(required) ? required : [];
}

function propertyOf({ properties }: SchemaObject, name: unknown): Schema {
  const each = (properties as Record<string, Schema> | undefined)?.[String(name)];
  return each ?? true;
}

const referencesMax = 20;

function followed(root: Schema, schema: Schema): SchemaObject | null {
  let target = schema;
  for (let i = 0; i < referencesMax; i++) {
    if (typeof target !== "object" || target === null) return null;
    if (typeof target["$ref"] !== "string") return target;
    target = resolve(root, target["$ref"], "$ref");
  }
  return null;
}

function typesOf(schema: SchemaObject): readonly string[] {
  const { type } = schema;
  const values = valuesOf(schema)?.map((text) => JSON.parse(text) as unknown);
  const given = type ?? values?.map(nameOfType) ?? [...typeNames];
  const names = (Array.isArray(given) ? given : [given]) as string[];
  // Every integer is a number.
  return names.map((name) => (name === "integer" ? "number" : name));
}

function nameOfType(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
}

/** As JSON texts; null: not a list of values. */
function valuesOf(schema: SchemaObject): readonly string[] | null {
  if ("const" in schema) return [JSON.stringify(schema["const"])];
  const { enum: values } = schema;
  return Array.isArray(values) ? values.map((value) => JSON.stringify(value)) : null;
}
