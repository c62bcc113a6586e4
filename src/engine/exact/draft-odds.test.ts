import assert from "node:assert/strict";
import { test } from "node:test";
import { draftCount, DraftOdds, DraftTries, draftTokensMax } from "./draft-odds.ts";

/** Guessing costs a tenth of what it saves, as with one request. */
const cheap = { tokenMs: 10, guessMs: 1 };
/** As with many requests in a step. */
const dear = { tokenMs: 1.2, guessMs: 1 };

test("guesses become more where they are right, fewer where they are wrong, and end where they do not pay", () => {
  const right = new DraftOdds(0);
  const wrong = new DraftOdds(1);
  for (let i = 0; i < 40; i++) {
    right.learn(2, 2);
    wrong.learn(2, 0);
  }
  assert.equal(draftCount(right.likely, cheap), draftTokensMax);
  assert.equal(draftCount(wrong.likely, cheap), 0);
  assert.equal(draftCount(1, dear), 0);
  assert.equal(draftCount(1, { tokenMs: 10, guessMs: null }), 0);
  assert.ok(draftCount(0.6, cheap) < draftCount(0.8, cheap));
});

test("what does not pay is tried now and then, ever more rarely, and only where it may be right", () => {
  const triesOf = (likely: number, tokens: number): number => {
    const tries = new DraftTries();
    return Array.from({ length: tokens }, () => tries.isDue(likely)).filter(Boolean).length;
  };
  assert.equal(triesOf(0.5, 10_000), 0);
  assert.ok(triesOf(0.9, 100) >= 1);
  assert.ok(triesOf(0.9, 100_000) <= 20, "in vain for too long");
  const tries = new DraftTries();
  const often = Array.from({ length: 10_000 }, () => {
    tries.reset();
    return tries.isDue(0.9);
  });
  assert.ok(often.filter(Boolean).length > 100);
});
