/** OpenAI's `response_format`, and two forms that other servers of open models know, as a constraint. */
import { z } from "zod";
import { regexGrammar } from "../../grammar/regex.ts";
import { jsonSchemaGrammar } from "../../grammar/json-schema.ts";
import { characterClass } from "../../grammar/character-class.ts";
import type { CharacterSet } from "../../grammar/character-set.ts";
import type { Schema } from "../../grammar/schema-keywords.ts";
import { type Constraint, grammarCharsMax } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";

const param = "response_format";
/** As JSON; OpenAI takes no more either. */
const schemaCharsMax = 128 * 1024;

const schema = z.custom<Schema>(
  (value) =>
    typeof value === "boolean" || (typeof value === "object" && value !== null && !Array.isArray(value)),
);

export const responseFormatSchema = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("text") }),
  z.looseObject({ type: z.literal("json_object") }),
  z.looseObject({
    type: z.literal("json_schema"),
    json_schema: z.looseObject({
      name: z.string().regex(/^[\w-]{1,64}$/),
      description: z.string().nullish(),
      schema: schema.nullish(),
      strict: z.boolean().nullish(),
    }),
  }),
  z.looseObject({ type: z.literal("regex"), pattern: z.string().min(1).max(grammarCharsMax) }),
  z.looseObject({ type: z.literal("grammar"), grammar: z.string().min(1).max(grammarCharsMax) }),
]);

/** Null: any answer. @throws SkeinError `invalid_request`, `unsupported_parameter`, with the parameter's name */
export function constraintOf(
  given: z.infer<typeof responseFormatSchema> | null | undefined,
): Constraint | null {
  try {
    return given == null || given.type === "text" ? null : constraintOfFormat(given);
  } catch (error) {
    if (!(error instanceof SkeinError)) throw error;
    const { code, message, hint } = error;
    throw new SkeinError(code, message, { param, ...(hint === undefined ? {} : { hint }) });
  }
}

function constraintOfFormat(
  given: Exclude<z.infer<typeof responseFormatSchema>, { type: "text" }>,
): Constraint {
  switch (given.type) {
    case "json_object":
      return {
        grammar: jsonSchemaGrammar({ type: "object" }),
        responseFormat: JSON.stringify({ type: given.type }),
      };
    case "json_schema": {
      const { name, description, schema: asked, strict } = given.json_schema;
      const wanted = asked ?? { type: "object" };
      if (lengthOf(wanted) > schemaCharsMax) {
        throw new SkeinError("invalid_request", `The schema is longer than ${schemaCharsMax} characters.`);
      }
      const json_schema = {
        name,
        ...(description == null ? {} : { description }),
        schema: wanted,
        ...(strict == null ? {} : { strict }),
      };
      return {
        grammar: jsonSchemaGrammar(wanted),
        responseFormat: JSON.stringify({ type: given.type, json_schema }),
      };
    }
    case "regex":
      return { grammar: `root ::= ${regexGrammar(given.pattern, plainSpelling)}\n`, responseFormat: null };
    case "grammar":
      return { grammar: given.grammar, responseFormat: null };
  }
}

function plainSpelling(set: CharacterSet): string | null {
  return set.length === 0 ? null : characterClass(set);
}

function lengthOf(value: unknown): number {
  try {
    return JSON.stringify(value).length;
  } catch {
    // Nested deeper than the stack.
    return Number.POSITIVE_INFINITY;
  }
}
