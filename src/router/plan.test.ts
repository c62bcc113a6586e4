import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { seededRandom } from "../util/random.ts";
import { candidate, type CandidateValues, facts } from "./fixture.suite.ts";
import { loadOf, type Plan, planAttempts, slotsFor } from "./plan.ts";
import { defaultPolicy } from "./policy.ts";
import { type Candidate, predict, type RequestFacts } from "./predict.ts";

const anyCandidates = fc
  .uniqueArray(fc.string({ minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 8 })
  .chain((ids) =>
    fc.tuple(
      ...ids.map((id) =>
        fc
          .record({
            active: fc.nat(20),
            queued: fc.nat(20),
            roundTripMs: fc.nat(300),
            jitterMs: fc.option(fc.nat(50)),
            ttftMs: fc.option(fc.nat(2000)),
            answerMs: fc.option(fc.nat(20_000)),
            failureShare: fc.double({ min: 0, max: 1, noNaN: true }),
            trust: fc.double({ min: 0, max: 1, noNaN: true }),
            cachedTokens: fc.nat(600),
            cooling: fc.boolean(),
            parallelMax: fc.integer({ min: 1, max: 16 }),
          })
          .map((values) => candidate(id, values)),
      ),
    ),
  );

const steady = { ...defaultPolicy, exploreShare: 0 };
const plan = (candidates: readonly Candidate[], seed = 1, request: RequestFacts = facts): Plan =>
  planAttempts(candidates, request, seededRandom(seed), steady);
const scoreOf = (values: CandidateValues, request: RequestFacts = facts): number =>
  predict(candidate("a", values), request, defaultPolicy).scoreMs;

test("no provider twice, none invented or lost, not more than the limit, the same for every order of input", () => {
  fc.assert(
    fc.property(anyCandidates, fc.nat(), (candidates, seed) => {
      const made = plan(candidates, seed);
      const attempts = made.attempts.map((scored) => scored.candidate);
      assert.equal(new Set(attempts).size, attempts.length);
      assert.ok(attempts.every((planned) => candidates.includes(planned)));
      assert.equal(attempts.length, Math.min(made.scored.length, defaultPolicy.attemptsMax));
      assert.equal(made.scored.length + made.rejected.length, candidates.length);
      assert.deepEqual(plan(candidates.toReversed(), seed).attempts, made.attempts);
    }),
  );
});

test("prompts that are still to be read there come first; answers of a busy provider are slower", () => {
  const reads = { prefillMsPerToken: 0.5 };
  assert.equal(scoreOf({ ...reads, aheadTokens: 4_000 }) - scoreOf(reads), 2_000);
  const long = { ...facts, outputTokensMax: 200 };
  const slower =
    scoreOf({ active: 2, ttftMs: 0, prefillMsPerToken: 0 }, long) -
    scoreOf({ ttftMs: 0, prefillMsPerToken: 0 }, long);
  assert.ok(slower > 0, "two of four slots are taken");
});

test("a cooling provider is tried only after all healthy ones; the first is never far from the best", () => {
  fc.assert(
    fc.property(anyCandidates, fc.nat(), (candidates, seed) => {
      const { attempts, scored } = plan(candidates, seed);
      const flags = attempts.map((attempt) => attempt.candidate.cooling);
      assert.deepEqual(
        flags,
        flags.toSorted((a, b) => Number(a) - Number(b)),
      );
      const [first, best] = [attempts[0], scored[0]];
      if (first === undefined || best === undefined) return;
      const { nearBestFactor, nearBestMs } = defaultPolicy;
      const limitMs = Math.max(
        best.prediction.scoreMs * nearBestFactor,
        best.prediction.scoreMs + nearBestMs,
      );
      assert.ok(first.prediction.scoreMs <= limitMs);
    }),
  );
});

test("near beats far, steady beats jittery, idle beats busy, fast beats slow, cheap beats dear, reliable beats failing", () => {
  const price = (output: bigint) => ({
    inputPerMillionTokens: 0n,
    outputPerMillionTokens: output,
    perSecond: 0n,
  });
  const worse: CandidateValues[] = [
    { roundTripMs: 800 },
    { jitterMs: 400 },
    { active: 4, queued: 3 },
    { ttftMs: 2000 },
    { tpotMs: 80 },
    { price: price(20_000_000_000n) },
    { failureShare: 0.5 },
    { trust: 0.1 },
  ];
  for (const values of worse) {
    for (let seed = 0; seed < 5; seed++) {
      const made = plan([candidate("worse", values), candidate("better")], seed);
      assert.equal(made.attempts[0]!.candidate.providerId, "better", JSON.stringify(Object.keys(values)));
      assert.equal(made.reason, "best_score");
    }
  }
});

test("prediction: longer prompts take longer, cached ones shorter, a full provider's queue is waited for", () => {
  const long = { ...facts, promptTokens: 5_000 };
  assert.equal(scoreOf({}, long) - scoreOf({}), 4_500 * 0.2);
  assert.ok(scoreOf({ cachedTokens: 4_000 }, long) < scoreOf({}, long));
  assert.ok(scoreOf({ active: 2 }) > scoreOf({}), "batching shares the machine");
  assert.ok(scoreOf({ active: 4, queued: 4 }) > scoreOf({ active: 4 }) + 900);
  assert.ok(scoreOf({ ttftMs: null, tpotMs: null, answerMs: null, jitterMs: null }) > 0);
});

test("equal providers share the load instead of one being stampeded", () => {
  const load = new Map(["a", "b", "c"].map((id) => [id, 0]));
  const random = seededRandom(3);
  for (let i = 0; i < 12; i++) {
    const candidates = [...load].map(([id, active]) => candidate(id, { active }));
    const first = planAttempts(candidates, facts, random, steady).attempts[0]!.candidate.providerId;
    load.set(first, load.get(first)! + 1);
  }
  assert.ok(Math.max(...load.values()) - Math.min(...load.values()) <= 2, JSON.stringify([...load]));
});

test("a conversation goes where its cache is, until that one is loaded", () => {
  const flat = { prefillMsPerToken: 0.05 };
  const others = ["b", "c", "d"].map((id) => candidate(id, flat));
  for (let seed = 0; seed < 20; seed++) {
    const made = plan([candidate("a", { ...flat, cachedTokens: 400 }), ...others], seed);
    assert.equal(made.attempts[0]!.candidate.providerId, "a");
    assert.equal(made.reason, "prompt_cached");
    const busy = plan(
      [candidate("a", { ...flat, cachedTokens: 400, active: 4, queued: 2 }), ...others],
      seed,
    );
    assert.notEqual(busy.attempts[0]!.candidate.providerId, "a");
  }
});

test("rejected: full ones, and those too slow for the request", () => {
  const made = plan(
    [candidate("full", { active: 4, queued: 4 }), candidate("slow", { ttftMs: 900 }), candidate("good")],
    1,
    { ...facts, ttftMaxMs: 500 },
  );
  assert.deepEqual(
    made.attempts.map((attempt) => attempt.candidate.providerId),
    ["good"],
  );
  assert.deepEqual(made.rejected, [
    { providerId: "full", reason: "full" },
    { providerId: "slow", reason: "too_slow" },
  ]);
  assert.equal(made.reason, "only_one");
});

test("headroom is kept from new requests, not from those that lost their provider", () => {
  const policy = { ...defaultPolicy, headroom: 0.25 };
  const busy = [candidate("a", { active: 3 })];
  const attemptsOf = (request: RequestFacts): number =>
    planAttempts(busy, request, seededRandom(1), policy).attempts.length;
  assert.equal(attemptsOf(facts), 0);
  assert.equal(attemptsOf({ ...facts, isResumed: true }), 1);
  assert.equal(slotsFor(1, false, 0.5), 1, "a provider with one slot serves");
  assert.equal(loadOf(busy[0]!), 0.75);
});

test("now and then somebody else is tried, unless it is full, cooling or hopeless", () => {
  const others = [
    candidate("other", { ttftMs: 600 }),
    candidate("hopeless", { ttftMs: 60_000 }),
    candidate("busy", { active: 4 }),
    candidate("cooling", { cooling: true }),
  ];
  const explored = new Map<string, number>();
  for (let seed = 0; seed < 2_000; seed++) {
    const made = planAttempts([candidate("best"), ...others], facts, seededRandom(seed));
    if (made.reason !== "explored") continue;
    const id = made.attempts[0]!.candidate.providerId;
    explored.set(id, (explored.get(id) ?? 0) + 1);
  }
  assert.deepEqual([...explored.keys()].toSorted(), ["best", "other"]);
  assert.ok(explored.get("other")! > 1 && explored.get("other")! < 40);
});
