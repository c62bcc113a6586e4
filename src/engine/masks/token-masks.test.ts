import assert from "node:assert/strict";
import { isIPv4, isIPv6 } from "node:net";
import { after, test } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { characterClass } from "../../grammar/character-class.ts";
import { jsonSchemaGrammar } from "../../grammar/json-schema.ts";
import { regexGrammar } from "../../grammar/regex.ts";
import type { Schema } from "../../grammar/schema-keywords.ts";
import { SkeinError } from "../../util/errors.ts";
import { end, idsIn, model, pick, textOf, walk } from "./random-walk.suite.ts";
import { isValid, schemas } from "./schema-cases.suite.ts";
import { TokenMasks } from "./token-masks.ts";

const masks = new TokenMasks(model);
after(() => masks.close());

function randomOf(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) >>> 8;
}

async function answersTo(schema: Schema, count: number, seed: number): Promise<number[][]> {
  const grammar = jsonSchemaGrammar(schema);
  const answers: number[][] = [];
  for (let i = 0; i < count; i++) {
    const mask = await masks.open(grammar, []);
    const answer = walk(mask, randomOf(seed + i));
    mask.close();
    if (answer !== null) answers.push(answer);
  }
  return answers;
}

test("whatever a schema's grammar allows is valid", async () => {
  await fc.assert(
    fc.asyncProperty(schemas, fc.nat(), async (schema, seed) => {
      for (const answer of await answersTo(schema, 4, seed)) {
        const text = textOf(answer);
        assert.ok(isValid(schema, text), `${JSON.stringify(schema)} does not allow ${text}`);
      }
    }),
    { numRuns: 25 },
  );
});

const node: Schema = {
  $ref: "#/$defs/a~1b",
  $defs: {
    "a/b": {
      type: "object",
      properties: { next: { anyOf: [{ $ref: "#/$defs/a~1b" }, { type: "null" }] } },
      required: ["next"],
      additionalProperties: false,
    },
  },
};
const shape = (kind: string, size: string): Schema => ({
  type: "object",
  properties: { kind: { const: kind }, [size]: { type: "number", exclusiveMinimum: 0, maximum: 2.5 } },
  required: ["kind", size],
});

test("references, alternatives that exclude each other, names that others must not have", async () => {
  for (const schema of [
    node,
    { oneOf: [shape("circle", "radius"), shape("square", "side"), { type: "null" }] },
    {
      type: "object",
      properties: { ab: { type: "null" } },
      required: ["ab", "c"],
      additionalProperties: { type: "integer" },
    },
    { allOf: [{ type: ["integer", "string"], maximum: -3 }] },
    { type: "array", prefixItems: [{ const: 1 }, { const: 2 }], items: false, minItems: 1 },
  ] satisfies Schema[]) {
    const answers = await answersTo(schema, 6, 3);
    assert.ok(answers.length > 0);
    for (const answer of answers) {
      assert.ok(
        isValid(schema, textOf(answer)),
        `${JSON.stringify(schema)} does not allow ${textOf(answer)}`,
      );
    }
  }
});

/** All that a grammar of few answers allows, as JSON. */
async function allAnswersTo(schema: Schema, count: number): Promise<Set<string>> {
  const found = new Set<string>();
  for (let seed = 0; seed < 400 && found.size < count; seed++) {
    for (const answer of await answersTo(schema, 12, 7_919 * seed)) found.add(textOf(answer));
  }
  return found;
}

test("multiples: all within the bounds, and no others", async () => {
  const cases: readonly (readonly [Schema, readonly string[]])[] = [
    [{ type: "integer", minimum: -7, maximum: 8, multipleOf: 3 }, ["-6", "-3", "0", "3", "6"]],
    [{ type: "integer", exclusiveMinimum: 90, maximum: 120, multipleOf: 10 }, ["100", "110", "120"]],
    [{ type: "integer", minimum: 0, maximum: 4, multipleOf: 0.5 }, ["0", "1", "2", "3", "4"]],
    [{ type: "integer", minimum: 1, maximum: 6, multipleOf: 1.5 }, ["3", "6"]],
    [{ type: "number", minimum: -0.3, exclusiveMaximum: 0.35, multipleOf: 0.25 }, ["-0.25", "0.00", "0.25"]],
    [
      { type: "number", minimum: 9.98, maximum: 10.011, multipleOf: 0.01 },
      ["9.98", "9.99", "10.00", "10.01"],
    ],
    [{ multipleOf: 1, minimum: 8, maximum: 11 }, ["8", "9", "10", "11"]],
  ];
  for (const [schema, expected] of cases) {
    const found = await allAnswersTo(schema, expected.length);
    assert.deepEqual([...found].toSorted(), [...expected].toSorted(), JSON.stringify(schema));
  }
  for (const multipleOf of [7, 100, 1_000, 96, 127, 0.001, 0.3]) {
    const places = (String(multipleOf).split(".")[1] ?? "").length;
    const unit = BigInt(Math.round(multipleOf * 10 ** places));
    const answers = await answersTo({ type: "number", multipleOf }, 8, 5);
    assert.ok(answers.length > 0);
    for (const answer of answers) {
      const text = textOf(answer);
      assert.match(
        text,
        places === 0 ? /^-?(0|[1-9]\d*)$/ : new RegExp(`^-?(0|[1-9]\\d*)\\.\\d{${places}}$`),
      );
      assert.equal(BigInt(text.replace(".", "")) % unit, 0n, `${text} of ${multipleOf}`);
    }
  }
});

test("lists of different values: each once, in any order", async () => {
  const items = { type: "string", enum: ["a", "b", "ab"] };
  const all = await allAnswersTo({ type: "array", items, uniqueItems: true, minItems: 2 }, 12);
  assert.equal(all.size, 12);
  for (const schema of [
    { type: "array", items, uniqueItems: true },
    {
      type: "array",
      items: { enum: [1, "1", null, true, 2.5, "x", "y", "z"] },
      uniqueItems: true,
      maxItems: 5,
    },
    { type: "array", items: { type: "boolean" }, uniqueItems: true, minItems: 1 },
    { type: "array", items: { type: "string" }, uniqueItems: true, maxItems: 1 },
  ] satisfies Schema[]) {
    for (const answer of await answersTo(schema, 8, 1)) {
      assert.ok(
        isValid(schema, textOf(answer)),
        `${JSON.stringify(schema)} does not allow ${textOf(answer)}`,
      );
    }
  }
});

test("formats are what they are called", async () => {
  const judges: Record<string, (text: string) => boolean> = {
    date: (text) => new Date(`${text}T00:00:00Z`).toISOString().startsWith(text),
    time: (text) => !Number.isNaN(Date.parse(`2000-01-01T${text}`)),
    "date-time": (text) => !Number.isNaN(Date.parse(text)),
    duration: (text) => /^P(?!$)(\d+[YMWD])*(T(\d+[HMS])+)?$/.test(text),
    email: (text) => z.email().safeParse(text).success,
    hostname: (text) => new URL(`http://${text}.example`).hostname === `${text}.example`.toLowerCase(),
    ipv4: isIPv4,
    ipv6: isIPv6,
    uuid: (text) => z.uuid().safeParse(text).success,
    uri: (text) => URL.canParse(text),
  };
  for (const [format, isRight] of Object.entries(judges)) {
    for (const answer of await answersTo({ type: "string", format }, 5, 8)) {
      const text = JSON.parse(textOf(answer)) as string;
      assert.ok(isRight(text), `${text} is no ${format}`);
    }
  }
});

test("what a regular expression's grammar allows matches it", async () => {
  for (const pattern of [
    "^(red|green)-\\d{3}$",
    "b+c?",
    "^[^a-y\\s]{1,4}$",
    "^a|z$",
    "^(?:x{2,3}|(?<y>y)){1,2}?\\u0041\\.$",
    "^[\\w-]+@é$",
    "^\\S\\D\\W$",
  ]) {
    const grammar = `root ::= ${regexGrammar(pattern, (set) => (set.length === 0 ? null : characterClass(set)))}`;
    for (let i = 0; i < 4; i++) {
      const mask = await masks.open(grammar, []);
      const answer = walk(mask, randomOf(i));
      mask.close();
      if (answer !== null) assert.match(textOf(answer), new RegExp(pattern, "u"));
    }
  }
});

const anyString = 'root ::= "x" [a-z]* "."';

function refusal(says: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof SkeinError && error.code === "invalid_request" && says.test(error.message);
}

test("the same mask at every position, for whoever comes later", async () => {
  const grammar = jsonSchemaGrammar({
    type: "object",
    properties: { a: { type: "integer" }, b: {} },
    required: ["a"],
  });
  const whole = await masks.open(grammar, []);
  const seen: string[] = [];
  const next = randomOf(4);
  const tokenIds: number[] = [];
  for (let allowed = whole.allowed(); allowed !== null && tokenIds.length < 40; allowed = whole.allowed()) {
    seen.push(allowed.join());
    const id = pick(idsIn(allowed), next);
    if (id === end) break;
    tokenIds.push(id);
    whole.advance(id);
  }
  whole.close();
  for (const [count, mask] of seen.entries()) {
    const later = await masks.open(grammar, tokenIds.slice(0, count));
    assert.equal(later.allowed()?.join(), mask, `after ${count} tokens`);
    later.close();
  }
});

test("a grammar that is none, or too much, is refused in time with a reason, and others do not notice", async () => {
  const own = new TokenMasks(model);
  const hasty = new TokenMasks(model, { compileTimeoutMs: 700 });
  const other = await own.open(anyString, []);
  other.advance(120);
  const bomb = 'root ::= (("a"{0,500} "b"){0,500} "c"){0,500}';
  const deep = `root ::= ${"(".repeat(5_000)}"a"${")".repeat(5_000)}`;
  await Promise.all([
    assert.rejects(hasty.open(bomb, []), refusal(/longer than 0\.7 s to compile/)),
    assert.rejects(own.open(deep, []), refusal(/too large or too complex/)),
    assert.rejects(own.open('root ::= "a" nothing', []), refusal(/"nothing" is not defined/)),
  ]);
  assert.deepEqual(idsIn(other.allowed()!).includes(46), true);
  other.advance(46);
  assert.equal(other.allowed(), null);
  other.advance(46);
  assert.throws(() => other.allowed(), refusal(/does not have the form/));
  await assert.rejects(own.open(anyString, [46]), refusal(/does not have the form/));
  own.close();
  assert.throws(
    () => other.allowed(),
    (error) => error instanceof SkeinError,
  );
});

test("more grammars than threads wait for their turn; each is compiled once", async () => {
  const open = await Promise.all(["a", "b", "c", "d"].map((text) => masks.open(`root ::= "${text}"`, [])));
  let hasFifth = false;
  const fifth = masks.open('root ::= "e"', []).then((mask) => {
    hasFifth = true;
    return mask;
  });
  const again = await masks.open('root ::= "b"', []);
  assert.equal(hasFifth, false);
  open[2]!.close();
  assert.deepEqual(idsIn((await fifth).allowed()!), [101]);
  assert.deepEqual(idsIn(again.allowed()!), [98]);
  for (const mask of [...open, again, await fifth]) mask.close();
});
