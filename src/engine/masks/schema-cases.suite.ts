/** JSON schemas for tests: random ones, and the judge of what was generated for them. */
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import type { Schema, SchemaObject } from "../../grammar/schema-keywords.ts";

const ajv = new Ajv2020({ strict: false, logger: false });

/** Whether a text is JSON that matches. */
export function isValid(schema: Schema, text: string): boolean {
  try {
    return ajv.validate(schema, JSON.parse(text));
  } catch {
    return false;
  }
}

const name = fc.constantFrom("a", "b", "ab", 'q"\\', "é\n", "0", "__proto__x");
const literal = fc.constantFrom<unknown>("x", 'he said "x"\n', "", 0, -1.5, true, null, [1, { k: [] }], {
  a: "b",
});
const bound = fc.oneof(
  fc.integer({ min: -120, max: 1_200 }),
  fc.integer({ min: -999, max: 999 }).map((n) => n / 100),
);

const strings: fc.Arbitrary<SchemaObject> = fc.oneof(
  fc.constant({ type: "string" }),
  fc
    .tuple(fc.nat(4), fc.nat(5))
    .map(([minLength, more]) => ({ type: "string", minLength, maxLength: minLength + more })),
  fc
    .constantFrom(
      "^[a-c]{2,3}$",
      "x",
      '^"[^a]{1,2}\\\\$',
      "^(ab|c+)\\d?$",
      "b$",
      "^.$",
      "^\\s\\w\\W?$",
      "[\\u00e9-\\u00ff]",
    )
    .map((pattern) => ({ type: "string", pattern })),
);

const numbers: fc.Arbitrary<SchemaObject> = fc
  .record({
    type: fc.constantFrom("number", "integer"),
    low: fc.option(bound),
    span: fc.option(fc.nat(900)),
    kinds: fc.nat(3),
    step: fc.option(fc.constantFrom(2, 3, 5, 7, 10, 25), { freq: 3 }),
  })
  .map(({ type, low, span, kinds, step }) => ({
    type,
    ...(low === null ? {} : { [kinds & 1 ? "exclusiveMinimum" : "minimum"]: low }),
    ...(span === null ? {} : { [kinds & 2 ? "exclusiveMaximum" : "maximum"]: (low ?? 0) + 2 + span }),
    // Where there is one for sure.
    ...(step === null || type === "number" || (span !== null && span < 60) ? {} : { multipleOf: step }),
  }));

const { schema } = fc.letrec<{ schema: SchemaObject }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, depthIdentifier: "schema" },
    strings,
    numbers,
    fc.constantFrom<SchemaObject>({ type: "boolean" }, { type: ["null", "boolean"] }, {}),
    fc.array(literal, { minLength: 1, maxLength: 3 }).map((values) => ({ enum: values })),
    literal.map((value) => ({ const: value })),
    fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
    arrays(tie("schema")),
    objects(tie("schema")),
  ),
}));

function arrays(item: fc.Arbitrary<SchemaObject>): fc.Arbitrary<SchemaObject> {
  return fc
    .record({
      item,
      first: fc.array(item, { maxLength: 2 }),
      min: fc.nat(3),
      more: fc.option(fc.nat(2)),
      hasRest: fc.boolean(),
    })
    .map(({ item: items, first, min, more, hasRest }) => ({
      type: "array",
      ...(first.length > 0 ? { prefixItems: first } : {}),
      items: hasRest || first.length === 0 ? items : false,
      minItems: hasRest || first.length === 0 ? min : Math.min(min, first.length),
      ...(more === null ? {} : { maxItems: min + more }),
    }));
}

function objects(value: fc.Arbitrary<SchemaObject>): fc.Arbitrary<SchemaObject> {
  return fc
    .record({
      entries: fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key, maxLength: 4 }),
      required: fc.array(fc.nat(3), { maxLength: 3 }),
      additional: fc.oneof(fc.constantFrom<Schema | null>(true, false, null), value),
    })
    .map(({ entries, required, additional }) => ({
      type: "object",
      properties: Object.fromEntries(entries),
      required: [...new Set(required)].flatMap((i) => entries[i]?.[0] ?? []),
      ...(additional === null ? {} : { additionalProperties: additional }),
    }));
}

/** Schemas without references. */
export const schemas: fc.Arbitrary<SchemaObject> = schema;
