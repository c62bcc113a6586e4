import assert from "node:assert/strict";
import { test } from "node:test";
import { DraftLength, draftTokensMax } from "./draft-length.ts";

/** Guessing costs a tenth of what it saves, as with one request. */
const cheap = { tokenMs: 10, guessMs: 1 };
/** As with many requests in a step. */
const dear = { tokenMs: 1.2, guessMs: 1 };

test("guesses become more where they are right, fewer where they are wrong, and end where they do not pay", () => {
  const right = new DraftLength();
  const wrong = new DraftLength();
  for (let i = 0; i < 40; i++) {
    const count = right.choose(cheap);
    right.learn(count, count);
    wrong.learn(wrong.choose(cheap), 0);
  }
  assert.equal(right.choose(cheap), draftTokensMax);
  assert.equal(wrong.choose(cheap), 0);
  assert.equal(new DraftLength().choose(dear), 0);
});

test("who stopped guessing tries again now and then, unless it cannot pay", () => {
  const length = new DraftLength();
  for (let i = 0; i < 20; i++) length.learn(4, 0);
  const counts = Array.from({ length: 200 }, () => length.choose(cheap));
  const tries = counts.filter((count) => count > 0).length;
  assert.ok(tries >= 2 && tries <= 8, `${tries} tries`);
  const never = Array.from({ length: 200 }, () => length.choose({ tokenMs: 1, guessMs: 1.5 }));
  assert.ok(never.every((count) => count === 0));
});
