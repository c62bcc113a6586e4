import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SkeinError } from "../util/errors.ts";
import { type Random, seededRandom } from "../util/random.ts";
import {
  type CalibrationGroup,
  calibrationRecord,
  samplingClassOf,
  limitsFrom,
  limitsFor,
  meanUpperBound,
  parseCalibration,
} from "./calibration.ts";
import { clippedMargin, isFlagged, logEvidence, noEvidence, withMargins } from "./evidence.ts";

const meanMax = 0.01;
const clip = 0.1;
/** Margins of the hardest case are 0 or beyond both clips, so that both scales stand at their limit. */
const limits = [
  { clip, meanMax },
  { clip: 10 * clip, meanMax },
];

/** How many of `trials` streams of `tokens` margins are ever flagged. */
function flagged(
  trials: number,
  tokens: number,
  alpha: number,
  draw: (random: Random, token: number) => number,
): number {
  const random = seededRandom(trials + tokens);
  let count = 0;
  for (let i = 0; i < trials; i++) {
    const margins = Array.from({ length: tokens }, (_, token) => draw(random, token));
    if (isFlagged(withMargins(noEvidence, margins, limits), alpha)) count += 1;
  }
  return count;
}

/** Rare margins beyond the clip: the hardest case with this mean. */
const atMean = (random: Random, mean: number): number => (random.next() < mean ? 1 : 0);

test("looking after every token, honest providers are flagged no more often than promised", () => {
  // At the limit itself, in three shapes: rare and large, small and often, in bursts.
  const shapes: ((random: Random, token: number) => number)[] = [
    (random) => atMean(random, meanMax),
    (random) => 2 * meanMax * clip * random.next(),
    (random, token) => (token % 50 < 5 ? atMean(random, meanMax) : 0),
  ];
  for (const shape of shapes) {
    const trials = 1_000;
    const alpha = 0.05;
    const count = flagged(trials, 300, alpha, shape);
    // Three standard deviations above the bound.
    assert.ok(count <= trials * alpha + 3 * Math.sqrt(trials * alpha), `${count} of ${trials}`);
  }
});

test("the mean of W is at most 1 at the limit, whatever came before", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 0.2, noNaN: true }), { maxLength: 60 }),
      fc.double({ min: 0.001, max: 0.5, noNaN: true }),
      (margins, most) => {
        const at = [{ clip, meanMax: most }];
        const before = withMargins(noEvidence, margins, at);
        const after = (margin: number): number =>
          logEvidence(withMargins(before, [margin], at)) - logEvidence(before);
        // The two-point distribution on 0 and the clip with mean meanMax; all others lie between.
        const mean = most * Math.exp(after(1)) + (1 - most) * Math.exp(after(0));
        assert.ok(Math.abs(mean - 1) < 1e-9);
        // A token that fits costs at most the risk.
        assert.ok(Math.exp(after(0)) >= 0.25 - 1e-9);
      },
    ),
  );
});

test("cheats are found: many wrong tokens within few, few within many", () => {
  const needed = (rate: number): number => {
    const random = seededRandom(8);
    let evidence = noEvidence;
    for (let n = 1; n < 1e5; n++) {
      evidence = withMargins(evidence, [atMean(random, rate)], limits);
      if (isFlagged(evidence)) return n;
    }
    return Number.POSITIVE_INFINITY;
  };
  assert.ok(needed(0.5) < 15, `${needed(0.5)} tokens at one half`);
  assert.ok(needed(0.1) < 250, `${needed(0.1)} tokens at a tenth`);
  assert.ok(needed(0.03) < 4_000, `${needed(0.03)} tokens at 3 %`);
});

test("a flag stays; answers in parts give the same; tokens that are not allowed count as the clip", () => {
  const margins = [0, 0.02, Number.POSITIVE_INFINITY, 0.5, 0, 0.1];
  const whole = withMargins(noEvidence, margins, limits);
  let parts = noEvidence;
  for (const margin of margins) parts = withMargins(parts, [margin], limits);
  assert.deepEqual(parts, whole);
  assert.equal(clippedMargin(Number.POSITIVE_INFINITY, clip), 1);
  const bad = withMargins(noEvidence, Array<number>(20).fill(1), limits);
  assert.ok(isFlagged(bad));
  const later = withMargins(bad, Array<number>(5_000).fill(0), limits);
  assert.ok(isFlagged(later) && logEvidence(later) < 0);
  assert.throws(() => withMargins(noEvidence, [0], [{ clip: 1, meanMax: 0 }]), RangeError);
});

test("the bound on the mean holds as often as promised, and is tight", () => {
  const random = seededRandom(4);
  let wrong = 0;
  for (let i = 0; i < 200; i++) {
    const scores = Array.from({ length: 400 }, () => atMean(random, 0.02));
    if (meanUpperBound(scores, 0.1) < 0.02) wrong += 1;
  }
  assert.ok(wrong <= 20 + 3 * Math.sqrt(20), `${wrong} of 200`);
  const none = meanUpperBound(Array<number>(10_000).fill(0), 0.01);
  assert.ok(none > 4.6e-4 && none < 7e-4, `${none} without any`);
  const some = meanUpperBound(
    Array.from({ length: 10_000 }, (_, i) => (i % 100 === 0 ? 1 : 0)),
    0.01,
  );
  // sqrt(2 log(6/0.01)) = 3.6 standard deviations of 0.001, and the skew of rare numbers.
  assert.ok(some > 0.01 && some < 0.0145, `${some} for a mean of 0.01`);
});

test("a calibration takes a quantile for the clip, a bound for each class, and comes back from its file", () => {
  const random = seededRandom(2);
  const group = (name: CalibrationGroup["name"], rate: number): CalibrationGroup => ({
    name,
    streams: Array.from({ length: 50 }, () => Array.from({ length: 40 }, () => 0.4 * atMean(random, rate))),
  });
  const groups = [group("greedy", 0), group("hot", 0.02)];
  const { clips, summaries } = limitsFrom(groups);
  assert.deepEqual(clips, [0.4, 4]);
  const meansOf = (name: CalibrationGroup["name"]): number[] =>
    limitsFor({ clips, groups: summaries }, name).map((scale) => scale.meanMax);
  assert.deepEqual(meansOf("greedy"), summaries[0]!.means_max);
  assert.deepEqual(
    meansOf("plain"),
    summaries[1]!.means_max,
    "a class without calibration: the worst of all",
  );
  assert.ok(summaries[0]!.means[0] === 0 && meansOf("greedy")[0]! < meansOf("hot")[0]!);
  const facts = { model_id: "m", runtime: "r", shapes: ["1 thread"], created_at: "2026-01-01T00:00:00Z" };
  const record = calibrationRecord(groups, facts);
  assert.deepEqual(parseCalibration(JSON.stringify(record)), record);
  const isRefused = (error: unknown): boolean =>
    error instanceof SkeinError && error.code === "invalid_config";
  for (const text of [
    "",
    "{}",
    JSON.stringify({ ...record, clips: [1] }),
    JSON.stringify({ ...record, x: 1 }),
  ])
    assert.throws(() => parseCalibration(text), isRefused);
  assert.throws(() => limitsFrom([{ name: "hot", streams: [] }]), RangeError);
});

test("classes of sampling", () => {
  const base = {
    temperature: 1,
    topP: 1,
    topK: 0,
    minP: 0,
    presencePenalty: 0,
    frequencyPenalty: 0,
    logitBias: [],
  };
  assert.equal(samplingClassOf({ ...base, temperature: 0, topP: 0.5 }), "greedy");
  assert.equal(samplingClassOf(base), "plain");
  assert.equal(samplingClassOf({ ...base, minP: 0.05 }), "truncated");
  assert.equal(samplingClassOf({ ...base, temperature: 1.2, topK: 5 }), "hot");
});
