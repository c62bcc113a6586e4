import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../util/random.ts";
import { paceShareOf, Pace } from "./pace.ts";

const answer = { answerMs: 1_000, outputTokens: 11 };

test("the slope over the prompt's length is found, whatever was assumed", () => {
  const random = seededRandom(1);
  const pace = new Pace();
  assert.equal(pace.prefillMsPerToken(0.2), 0.2);
  for (let i = 0; i < 60; i++) {
    const prefillTokens = 50 + Math.floor(random.next() * 3_000);
    pace.learn({ ...answer, ttftMs: 40 + 1.5 * prefillTokens + 20 * random.next(), prefillTokens });
  }
  const slope = pace.prefillMsPerToken(0.2);
  assert.ok(Math.abs(slope - 1.5) < 0.1, String(slope));
  const predictedMs = pace.ttftMs! + slope * (2_000 - pace.prefillTokens);
  assert.ok(Math.abs(predictedMs - 3_050) < 150, String(predictedMs));
});

test("prompts of one length say nothing about others", () => {
  const pace = new Pace();
  for (let i = 0; i < 50; i++) pace.learn({ ...answer, ttftMs: 100 + (i % 5), prefillTokens: 300 });
  assert.equal(pace.prefillMsPerToken(0.2), 0.2);
});

test("pace, cache and lateness are smoothed over recent answers", () => {
  const pace = new Pace();
  assert.deepEqual([pace.ttftMs, pace.tokensPerSecond, pace.latenessP95], [null, null, null]);
  for (let i = 0; i < 100; i++) {
    pace.learn({ ...answer, ttftMs: 500, cacheHit: 0.5, lateness: i % 10 === 0 ? 4 : 1 });
  }
  assert.equal(pace.tokensPerSecond, 20);
  assert.ok(Math.abs(pace.cacheShare - 0.5) < 1e-6);
  assert.equal(pace.latenessP95, 4);
  for (let i = 0; i < 100; i++) pace.learn({ ...answer, ttftMs: 100, lateness: 1 });
  assert.ok(pace.ttftMs! < 101);
  assert.equal(pace.latenessP95, 1);
});

test("delivered pace counts against what is usual there, and load is no broken promise", () => {
  const taking = (msPerToken: number) => ({ ttftMs: 100, answerMs: 100 + 10 * msPerToken, outputTokens: 11 });
  const share = (tpotMs: number | null, msPerToken: number) => paceShareOf({ tpotMs }, taking(msPerToken));
  assert.equal(share(null, 500), 1, "nothing was promised");
  assert.equal(share(10, 5), 1);
  assert.equal(share(10, 20), 1, "beside others");
  assert.equal(share(10, 80), 0.25);
  assert.equal(paceShareOf({ tpotMs: 10 }, { ttftMs: 5, answerMs: 900, outputTokens: 1 }), 1);
});
