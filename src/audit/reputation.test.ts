import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { seededRandom } from "../util/random.ts";
import {
  type AtStake,
  newRecord,
  record,
  type ReputationEvent,
  type ReputationRecord,
  standingOf,
} from "./reputation.ts";

const hourMs = 3600_000;
const atStake: AtStake = { tier: "exact", feeNanoUsd: 0n, forfeitNanoUsd: null, evidence: 1 };
const good: ReputationEvent = { type: "completed", paceShare: 1, weight: 1 };
const aborted: ReputationEvent = { type: "aborted", weight: 1 };
const audit = (finding: "none" | "improbable" | "proved"): ReputationEvent => ({ type: "audit", finding });

type Timed = readonly [event: ReputationEvent, afterMs: number];

function times(count: number, event: ReputationEvent, afterMs = 0): Timed[] {
  return Array.from({ length: count }, () => [event, afterMs]);
}

function after(events: readonly Timed[]): { record: ReputationRecord; nowMs: number } {
  let nowMs = 0;
  let now = newRecord(0);
  for (const [event, afterMs] of events) now = record(now, event, (nowMs += afterMs));
  return { record: now, nowMs };
}

function trustAfter(events: readonly Timed[]): number {
  const { record: now, nowMs } = after(events);
  return standingOf(now, nowMs, atStake).trust;
}

const shareOf = fc.double({ min: 0, max: 1, noNaN: true });
/** Without proved failures: those suspend whoever has them and cannot be split. */
const anyEvent: fc.Arbitrary<ReputationEvent> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant("completed" as const), paceShare: shareOf, weight: shareOf }),
  },
  fc.record({ type: fc.constant("aborted" as const), weight: shareOf }),
  fc.record({ type: fc.constant("observed" as const), upMs: fc.nat(10 * hourMs), downMs: fc.nat(hourMs) }),
  fc.constantFrom(audit("none"), audit("improbable")),
);
const timed = fc.tuple(anyEvent, fc.nat(100 * hourMs));
const badEvent: fc.Arbitrary<ReputationEvent> = fc.oneof(
  fc.record({ type: fc.constant("aborted" as const), weight: shareOf }),
  fc.record({ type: fc.constant("observed" as const), upMs: fc.constant(0), downMs: fc.nat(100 * hourMs) }),
  fc.constantFrom(audit("improbable"), audit("proved")),
);

test("more bad evidence, at any time, never raises trust; a slower answer neither", () => {
  fc.assert(
    fc.property(
      fc.array(timed, { maxLength: 40 }),
      badEvent,
      fc.nat(),
      fc.boolean(),
      (events, bad, at, isSlower) => {
        const i = at % (events.length + 1);
        let worse: readonly Timed[] = [...events.slice(0, i), [bad, 0] as const, ...events.slice(i)];
        if (isSlower) {
          worse = events.map(([event, ms], j) =>
            j === i && event.type === "completed"
              ? [{ ...event, paceShare: event.paceShare / 2 }, ms]
              : [event, ms],
          );
        }
        assert.ok(trustAfter(worse) <= trustAfter(events) + 1e-12);
      },
    ),
    { numRuns: 500 },
  );
});

test("splitting evidence over k identities never gives more than their part", () => {
  fc.assert(
    fc.property(fc.array(timed, { maxLength: 40 }), fc.integer({ min: 2, max: 50 }), (events, k) => {
      const { record: whole, nowMs } = after(events);
      const part = Object.fromEntries(
        Object.entries(whole).map(([key, value]) => [key, key === "atMs" ? value : value / k]),
      ) as unknown as ReputationRecord;
      const trust = (one: ReputationRecord): number => standingOf(one, nowMs, atStake).trust;
      assert.ok(k * (trust(part) / k) <= trust(whole) + 1e-12);
    }),
    { numRuns: 500 },
  );
});

test("newcomers rise by work alone, and are audited less and less", () => {
  const start = standingOf(newRecord(0), 0, atStake);
  assert.deepEqual([start.trust, start.standing, start.audit.probability], [0.2, "newcomer", 0.25]);
  const events: Timed[] = [];
  for (let i = 0; i < 600; i++) {
    events.push([good, 60_000]);
    if (i % 10 === 0) events.push([audit("none"), 0]);
  }
  const { record: now, nowMs } = after(events);
  const standing = standingOf(now, nowMs, atStake);
  assert.equal(standing.standing, "trusted");
  assert.ok(standing.trust > 0.9 && standing.audit.probability === 0.01 && standing.priceWeight === 1);
  assert.equal(standing.factors[0]!.name, "history");
});

test("what is proved suspends and fades in time; what is improbable only de-ranks", () => {
  const history = times(200, good, 1_000);
  const proved = after([...history, [audit("proved"), 0]]);
  const suspended = standingOf(proved.record, proved.nowMs, atStake);
  assert.deepEqual([suspended.trust, suspended.standing, suspended.audit.probability], [0, "suspended", 1]);
  const laterMs = proved.nowMs + 76 * 24 * hourMs;
  const back = standingOf(proved.record, laterMs, atStake);
  assert.ok(back.standing === "newcomer" && back.trust <= 0.201, "it begins at the bottom");
  const statistics = after([...history, ...times(50, audit("improbable"))]);
  const ranked = standingOf(statistics.record, statistics.nowMs, atStake);
  assert.ok(ranked.standing !== "suspended" && ranked.trust >= 0.2 && ranked.trust < 0.21);
  assert.deepEqual(ranked.factors[0]!.name, "honesty");
});

test("what hurts most is named first", () => {
  const standing = (events: readonly Timed[]) => {
    const { record: now, nowMs } = after([...times(300, good, 1_000), ...events]);
    return standingOf(now, nowMs, atStake);
  };
  const breaking = standing(times(60, aborted));
  assert.equal(breaking.factors[0]!.name, "completion");
  assert.ok(breaking.priceWeight > 1.9 && breaking.priceWeight < 2.1);
  assert.equal(standing(times(300, { ...good, paceShare: 0.1 })).factors[0]!.name, "pace");
  const away = standing([[{ type: "observed", upMs: hourMs, downMs: 9 * hourMs }, 0]]);
  assert.equal(away.factors[0]!.name, "uptime");
  assert.ok(away.priceWeight <= 4);
});

/**
 * Work of one cheating owner over time among `others` of full trust: each step's work goes to identities in proportion to
 * capacity and trust; what was cheated is audited at the identity's own probability, and who is caught starts anew.
 */
function workWon(identities: number, cheatShare: number, seed: number): number {
  const random = seededRandom(seed);
  const others = 4;
  const answersPerStep = 20;
  const fresh = (): ReputationRecord => newRecord(0);
  const records = Array.from({ length: identities }, fresh);
  const debt = Array<number>(identities).fill(0);
  let won = 0;
  for (let step = 1; step <= 400; step++) {
    const nowMs = step * hourMs;
    const standings = records.map((one) => standingOf(one, nowMs, atStake));
    const weights = standings.map(({ trust }) => trust / identities);
    const total = weights.reduce((a, b) => a + b, others);
    for (let i = 0; i < identities; i++) {
      // Fractions of answers are carried over: no rounding favours few or many identities.
      debt[i] = debt[i]! + (answersPerStep * weights[i]!) / total;
      won += (answersPerStep * weights[i]!) / total;
      while (debt[i]! >= 1) {
        debt[i] = debt[i]! - 1;
        const isCheat = random.next() < cheatShare;
        const isAudited = random.next() < standings[i]!.audit.probability;
        records[i] = record(records[i]!, good, nowMs);
        if (isAudited) records[i] = isCheat ? newRecord(nowMs) : record(records[i]!, audit("none"), nowMs);
      }
    }
  }
  return won;
}

test("in simulation, many identities on the same machines win no more than one, honest or not", () => {
  const seeds = Array.from({ length: 24 }, (_, i) => i + 1);
  for (const cheatShare of [0, 0.05, 0.5]) {
    for (const k of [2, 10]) {
      const gains = seeds.map((seed) => workWon(k, cheatShare, seed) - workWon(1, cheatShare, seed + 1_000));
      const mean = gains.reduce((a, b) => a + b, 0) / gains.length;
      const variance = gains.reduce((sum, gain) => sum + (gain - mean) ** 2, 0) / (gains.length - 1);
      // Not above 0 by more than chance (three standard errors).
      assert.ok(
        mean <= 3 * Math.sqrt(variance / gains.length),
        `k = ${k}, ${cheatShare}: ${mean} more answers`,
      );
    }
  }
});
