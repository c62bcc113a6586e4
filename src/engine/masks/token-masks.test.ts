import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { jsonSchemaGrammar } from "../../grammar/json-schema.ts";
import type { Schema } from "../../grammar/schema-keywords.ts";
import { utf8 } from "../../util/bytes.ts";
import { isValid, schemas } from "./schema-cases.suite.ts";
import { type TokenMask, TokenMasks } from "./token-masks.ts";

/** All bytes, some longer tokens that cross the borders of JSON's own, one without text, and the end. */
const pieces = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...['{"', '":', '","', '"}', ', "', "true", "null", "12", '\\"', "\\u00", 'é"', "}]", "\n    "].map(utf8),
  new Uint8Array(0),
  new Uint8Array(0),
];
const empty = pieces.length - 2;
const end = pieces.length - 1;
const masks = new TokenMasks({
  pieces: (id) => pieces[id]!,
  isEnd: (id) => id === end,
  vocabularySize: pieces.length,
});
after(() => masks.close());

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function textOf(tokenIds: readonly number[]): string {
  return decoder.decode(Uint8Array.from(tokenIds.flatMap((id) => [...pieces[id]!])));
}

function idsIn(mask: Int32Array): number[] {
  return pieces.map((_, id) => id).filter((id) => ((mask[id >>> 5]! >>> (id & 31)) & 1) === 1);
}

/** Prefers what closes, so that answers end. */
function pick(ids: readonly number[], next: () => number): number {
  const closing = ids.filter((id) => /^["}\]]/.test(new TextDecoder().decode(pieces[id])));
  if (ids.includes(end) && next() % 2 === 0) return end;
  const from = closing.length > 0 && next() % 3 === 0 ? closing : ids;
  return from[next() % from.length]!;
}

/** A random answer; null when it did not end within a while. */
function walk(mask: TokenMask, next: () => number, tokenIds: number[] = []): number[] | null {
  for (let i = 0; i < 300; i++) {
    const allowed = mask.allowed();
    if (allowed === null) return tokenIds;
    const ids = idsIn(allowed);
    assert.ok(ids.length > 0, "there is always something to say");
    assert.ok(!ids.includes(empty), "a token without text leads nowhere");
    const id = pick(ids, next);
    if (id === end) return tokenIds;
    tokenIds.push(id);
    mask.advance(id);
  }
  return null;
}

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
    { numRuns: 60 },
  );
});
