import assert from "node:assert/strict";
import { test } from "node:test";
import type { Part } from "./document.ts";
import { repeatedTokens, wholeAnswer } from "./whole-answer.ts";

function partOf(emittedTokens: number, tokenIds: number[] | null, text: string, textFrom?: number): Part {
  const asked = { emitted: { tokens: emittedTokens } } as Part["asked"];
  const place = textFrom === undefined ? {} : { textFrom };
  return { providerId: "p", asked, tokenIds, text, receipt: null, checkpoint: null, problem: null, ...place };
}

test("attempts one after the other make one answer", () => {
  const parts = [partOf(0, [1, 2], "ab"), partOf(2, [3], "c")];
  assert.deepEqual(wholeAnswer(parts), { tokenIds: [1, 2, 3], text: "abc" });
  assert.equal(repeatedTokens(parts), 0);
  assert.deepEqual(wholeAnswer([]), { tokenIds: [], text: "" });
  assert.deepEqual(wholeAnswer([partOf(0, null, "ab"), partOf(0, [3], "c")]), {
    tokenIds: null,
    text: "abc",
  });
});

test("what two attempts delivered while a stream moved counts once", () => {
  // The second one was told two tokens; the first went on up to four.
  const parts = [partOf(0, [1, 2, 3, 4], "abcd"), partOf(2, [3, 4, 5, 6], "cdef", 2), partOf(6, [7], "g")];
  assert.deepEqual(wholeAnswer(parts), { tokenIds: [1, 2, 3, 4, 5, 6, 7], text: "abcdefg" });
  assert.equal(repeatedTokens(parts), 2);
});
