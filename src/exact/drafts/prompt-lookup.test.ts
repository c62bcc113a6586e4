import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PromptLookup } from "./prompt-lookup.ts";

function guess(tokens: readonly number[], countMax: number, lookup = new PromptLookup(), key = {}): number[] {
  const [guessed] = lookup.propose([{ key, tokens, countMax, draw: () => null }]);
  return [...guessed!];
}

test("what followed the same tokens before is guessed, the longest match and the latest of these first", () => {
  assert.deepEqual(guess([1, 2, 3, 4, 5, 9, 1, 2], 3), [3, 4, 5]);
  assert.deepEqual(guess([1, 2, 3, 9, 1, 2, 4, 9, 1, 2], 1), [4]);
  assert.deepEqual(guess([7, 1, 2, 3, 9, 8, 1, 2, 4, 9, 7, 1, 2], 1), [3]);
  assert.deepEqual(guess([1, 2, 3], 4), []);
  assert.deepEqual(guess([1], 4), []);
});

test("a repetition goes on", () => {
  assert.deepEqual(guess([1, 2, 3, 1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
  assert.deepEqual(guess([5, 5, 5, 5], 3), [5, 5, 5]);
});

test("guesses do not depend on how a sequence grew, and never are more than wanted", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 60 }),
      fc.integer({ min: 1, max: 9 }),
      (tokens, countMax) => {
        const lookup = new PromptLookup();
        const key = {};
        for (let length = 1; length <= tokens.length; length++) {
          const grown = guess(tokens.slice(0, length), countMax, lookup, key);
          assert.ok(grown.length === 0 || grown.length === countMax);
          const [fresh] = [guess(tokens.slice(0, length), countMax)];
          assert.deepEqual(grown, fresh);
        }
        lookup.forget(key);
        assert.deepEqual(guess([1, 2], 1, lookup, key), []);
      },
    ),
  );
});
