import assert from "node:assert/strict";
import { test } from "node:test";
import { createNaiveEngine, naiveDefaults } from "../engine/naive.ts";
import { systemClock } from "../util/clock.ts";
import {
  claimedAnswer,
  honestMargins,
  samplingKinds,
  type Scoring,
  streamRequest,
} from "./honest-streams.ts";

const never = new AbortController().signal;
const prompt = { kind: "text", text: "Which goose flies at the front?" } as const;

test("answers of every kind are claimed as they were given, scored in order, and fit", async () => {
  const engine = createNaiveEngine({ clock: systemClock }, naiveDefaults) as Scoring;
  const requests = Object.keys(samplingKinds).map((kind, i) => streamRequest(prompt, kind, i, 8 + i));
  let scored = 0;
  const margins = await honestMargins(
    { provider: engine, auditor: engine },
    requests,
    { parallel: 3, chunkTokens: null },
    { signal: never, onScored: () => (scored += 1) },
  );
  assert.equal(scored, requests.length);
  assert.deepEqual(
    margins.map((one) => one.length),
    requests.map(({ outputTokensMax }) => outputTokensMax),
  );
  assert.ok(margins.flat().every((margin) => margin === 0));
});

test("an answer that ended by itself is claimed to have, and another's answer does not fit", async () => {
  const engine = createNaiveEngine({ clock: systemClock }, naiveDefaults) as Scoring;
  const request = streamRequest(prompt, "temperature 1", 1, 100);
  const whole = await claimedAnswer(engine, request, never);
  assert.ok(whole.isEnded && whole.tokenIds.length === naiveDefaults.answerTokens);
  const cut = await claimedAnswer(engine, { ...request, outputTokensMax: 5 }, never);
  assert.ok(!cut.isEnded && cut.tokenIds.length === 5);
  const other = { ...request, sampling: { ...request.sampling, seed: 2 } };
  const { margins } = await engine.score({ request: other, ...whole, chunkTokens: null }, never);
  assert.ok(margins.some((margin) => margin === Number.POSITIVE_INFINITY));
});
