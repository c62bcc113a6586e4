import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { freePriceSheet } from "../protocol/price.ts";
import { seededRandom } from "../util/random.ts";
import { type Candidate, defaultPolicy, planAttempts, predictTtftMs } from "./plan.ts";

function candidate(
  providerId: string,
  values: Partial<Candidate> & { parallelMax?: number } = {},
): Candidate {
  const { parallelMax = 4, ...rest } = values;
  return {
    providerId,
    offer: {
      modelId: "m",
      name: "m",
      engine: "naive",
      trustTier: "float",
      contextTokensMax: 100,
      parallelMax,
      resumable: true,
      price: freePriceSheet,
    },
    active: 0,
    queued: 0,
    roundTripMs: 1,
    ttftMs: 100,
    answerMs: 1000,
    cooling: false,
    ...rest,
  };
}

const anyCandidates = fc
  .uniqueArray(fc.string({ minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 8 })
  .chain((ids) =>
    fc.tuple(
      ...ids.map((id) =>
        fc
          .record({
            active: fc.nat(20),
            queued: fc.nat(20),
            roundTripMs: fc.option(fc.nat(300)),
            ttftMs: fc.option(fc.nat(2000)),
            answerMs: fc.option(fc.nat(20_000)),
            cooling: fc.boolean(),
            parallelMax: fc.integer({ min: 1, max: 16 }),
          })
          .map((values) => candidate(id, values)),
      ),
    ),
  );

test("no provider twice, none invented, not more than the limit, the same for every order of input", () => {
  fc.assert(
    fc.property(anyCandidates, fc.nat(), (candidates, seed) => {
      const plan = planAttempts(candidates, seededRandom(seed));
      assert.equal(new Set(plan).size, plan.length);
      assert.equal(plan.length, Math.min(candidates.length, defaultPolicy.attemptsMax));
      assert.ok(plan.every((planned) => candidates.includes(planned)));
      assert.deepEqual(planAttempts(candidates.toReversed(), seededRandom(seed)), plan);
    }),
  );
});

test("a cooling provider is tried only after all healthy ones", () => {
  fc.assert(
    fc.property(anyCandidates, fc.nat(), (candidates, seed) => {
      const flags = planAttempts(candidates, seededRandom(seed)).map(({ cooling }) => cooling);
      assert.deepEqual(
        flags,
        flags.toSorted((a, b) => Number(a) - Number(b)),
      );
    }),
  );
});

test("near beats far, idle beats full, measured fast beats measured slow", () => {
  const firstOf = (...candidates: Candidate[]): string =>
    planAttempts(candidates, seededRandom(1))[0]!.providerId;
  assert.equal(firstOf(candidate("far", { roundTripMs: 300 }), candidate("near")), "near");
  assert.equal(firstOf(candidate("full", { active: 4, queued: 6 }), candidate("idle")), "idle");
  assert.equal(firstOf(candidate("slow", { ttftMs: 2000 }), candidate("fast")), "fast");
});

test("equal providers share the load instead of one being stampeded", () => {
  const load = new Map(["a", "b", "c"].map((id) => [id, 0]));
  const random = seededRandom(3);
  for (let i = 0; i < 12; i++) {
    const candidates = [...load].map(([id, active]) => candidate(id, { active }));
    const first = planAttempts(candidates, random)[0]!.providerId;
    load.set(first, load.get(first)! + 1);
  }
  assert.ok(Math.max(...load.values()) - Math.min(...load.values()) <= 2, JSON.stringify([...load]));
});

test("prediction grows with everything that takes time", () => {
  const base = predictTtftMs(candidate("a"));
  assert.ok(predictTtftMs(candidate("a", { roundTripMs: 50 })) > base);
  assert.ok(predictTtftMs(candidate("a", { active: 2 })) > base);
  assert.ok(
    predictTtftMs(candidate("a", { active: 4, queued: 4 })) > predictTtftMs(candidate("a", { active: 4 })),
  );
});
