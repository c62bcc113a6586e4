import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { seededRandom } from "../util/random.ts";
import {
  bestCheat,
  cheatingProfit,
  leastStake,
  plantedShareNeeded,
  type Stakes,
  sufficientStake,
} from "./economics.ts";
import { defaultMarket, type MarketOptions, simulateMarket } from "./market.ts";
import { defaultAuditPolicy } from "./probability.ts";

const stakes: Stakes = {
  gain: 0.8,
  fee: 1,
  auditProbability: 0.01,
  detection: 1,
  colludingShare: 0.1,
  escrow: true,
};
const part = (min: number, max: number) => fc.double({ min, max, noNaN: true });
const anyStakes = fc.record({
  gain: part(0.05, 1),
  fee: fc.constant(1),
  auditProbability: part(0.001, 1),
  detection: part(0.05, 1),
  colludingShare: part(0, 0.9),
  escrow: fc.constant(true),
});

test("the example: 89 fees of stake for one audit in a hundred", () => {
  assert.equal(Math.round(sufficientStake(stakes, 1)), 89);
});

test("with the stake of the formula, no share of cheating in no number of open answers pays", () => {
  fc.assert(
    fc.property(anyStakes, (given) => {
      const { profit } = bestCheat(given, sufficientStake(given, 1), 20_000);
      assert.ok(profit <= 1e-9, `${profit} fees`);
    }),
    { numRuns: 60 },
  );
});

test("without escrow the same stake is too small, and the one that grows with open answers suffices", () => {
  const open = { ...stakes, escrow: false };
  assert.ok(bestCheat(open, sufficientStake(stakes, 1), 2_000).profit > 100);
  fc.assert(
    fc.property(anyStakes, fc.integer({ min: 1, max: 2_000 }), (given, openAnswers) => {
      const without = { ...given, escrow: false };
      assert.ok(bestCheat(without, sufficientStake(without, openAnswers), openAnswers).profit <= 1e-6);
    }),
    { numRuns: 40 },
  );
});

test("the formula is not wasteful: a stake smaller by more than one fee can be cheated", () => {
  const needed = leastStake(stakes, 5_000);
  const enough = sufficientStake(stakes, 1);
  assert.ok(needed <= enough && needed > enough - 1.2, `${needed} of ${enough}`);
  assert.ok(cheatingProfit(stakes, 0.9 * enough, 1, 1) > 0);
  assert.equal(sufficientStake({ ...stakes, detection: 0 }, 1), Number.POSITIVE_INFINITY);
  assert.equal(plantedShareNeeded({ cost: 0.2, bond: 20 }), 0.01);
});

/** Audits at one rate for everybody, so that the formula's p is the market's. */
function market(values: Partial<MarketOptions>): MarketOptions {
  const p = 0.02;
  return {
    ...defaultMarket,
    providers: { honest: 6, cheat: 6, sybil: 6, colluder: 0, aborter: 0 },
    auditors: { awake: 9, lazy: 1, colluding: 0 },
    policy: { ...defaultAuditPolicy, newcomerProbability: p, floorProbability: p, gainShare: 0 },
    ...values,
  };
}

/** Profit of cheats above honest work, in fees for each answer, over seeds: mean and standard error. */
function advantage(
  options: MarketOptions,
  kind: "cheat" | "sybil",
  seeds: number,
): [mean: number, error: number] {
  const values = Array.from({ length: seeds }, (_, seed) => {
    const { providers } = simulateMarket(options, seededRandom(seed + 1));
    return providers[kind].profitPerAnswer - providers.honest.profitPerAnswer;
  });
  const mean = values.reduce((a, b) => a + b, 0) / seeds;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (seeds - 1);
  return [mean, Math.sqrt(variance / seeds)];
}

test("in the market, cheats that come back under new names lose above the bound and win far below it", () => {
  // q = p · d · share of auditors that are awake
  const bound = sufficientStake({ ...stakes, auditProbability: 0.02, colludingShare: 0.1 }, 1);
  const [above, aboveError] = advantage(market({ stake: 1.2 * bound, windows: 100 }), "sybil", 12);
  assert.ok(above + 2 * aboveError < 0, `${above} ± ${aboveError}`);
  const [below, belowError] = advantage(
    market({ stake: 0.1 * bound, escrow: false, windows: 100 }),
    "sybil",
    12,
  );
  assert.ok(below - 2 * belowError > 0, `${below} ± ${belowError}`);
});

test("nobody honest is ever slashed; aborting and sleeping do not pay", () => {
  const result = simulateMarket(defaultMarket, seededRandom(3));
  assert.equal(result.providers.honest.losses, 0);
  assert.ok(result.providers.honest.profit > 0);
  assert.ok(result.providers.aborter.profit < result.providers.honest.profit / 2);
  assert.ok(result.auditors.lazy.profit < result.auditors.awake.profit);
  assert.ok(result.providers.cheat.losses > 0 && result.cheated > 0);
  assert.deepEqual(simulateMarket(defaultMarket, seededRandom(3)), result);
});
