import assert from "node:assert/strict";
import { test } from "node:test";
import { type Disadvantage, disadvantageOf } from "./explain.ts";
import { candidate, type CandidateValues, facts } from "./fixture.suite.ts";
import type { Scored } from "./plan.ts";
import { defaultPolicy } from "./policy.ts";
import { predict } from "./predict.ts";

test("the word is what cost most", () => {
  const scored = (values: CandidateValues): Scored => {
    const made = candidate("a", values);
    return { candidate: made, prediction: predict(made, facts, defaultPolicy) };
  };
  const price = { inputPerMillionTokens: 0n, outputPerMillionTokens: 20_000_000_000n, perSecond: 0n };
  const expected: [Disadvantage, CandidateValues][] = [
    ["network", { roundTripMs: 1_000 }],
    ["queue", { active: 4, queued: 3 }],
    ["prefill", { ttftMs: 3_000 }],
    ["pace", { tpotMs: 90, roundTripMs: 20 }],
    ["price", { price }],
    ["failures", { failureShare: 0.7 }],
    ["trust", { trust: 0 }],
    ["cooling", { cooling: true }],
    ["even", { ttftMs: 102 }],
  ];
  for (const [word, values] of expected) {
    assert.equal(disadvantageOf(scored(values), scored({}), defaultPolicy), word);
  }
});
