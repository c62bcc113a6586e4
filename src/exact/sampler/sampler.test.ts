import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Sampling } from "../../protocol/generate.ts";
import { gumbelTable, gumbelTailTable } from "../ops/tables.ts";
import { samplerParameters } from "./parameters.ts";
import { drawOf, plainCandidates, plainScores, plainToken } from "./plain.suite.ts";
import { inverseTemperatureMax, type SamplerParameters, sampleToken } from "./sampler.ts";

const plain: SamplerParameters = {
  inverseTemperature: 2 ** 16,
  topK: 0,
  topP: 2 ** 16,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  bias: new Map(),
  key: [1, 0],
};
const none = new Map<number, number>();

const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const share = fc.oneof(fc.constantFrom(0, 1, 2 ** 16), fc.integer({ min: 0, max: 2 ** 16 }));
const nats = fc.oneof(
  fc.integer({ min: -8_192, max: 8_192 }),
  fc.integer({ min: -4_096_000, max: 4_096_000 }),
);

const parametersOf = (tokens: number): fc.Arbitrary<SamplerParameters> =>
  fc.record({
    inverseTemperature: fc.oneof(
      fc.constantFrom(0, 1, 2 ** 15, 2 ** 16, inverseTemperatureMax),
      fc.integer({ min: 1, max: 2 ** 18 }),
    ),
    topK: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: tokens + 1 })),
    topP: share,
    minP: fc.oneof(fc.constant(0), share),
    presencePenalty: nats,
    frequencyPenalty: nats,
    bias: fc
      .array(fc.tuple(fc.integer({ min: 0, max: tokens }), nats), { maxLength: 3 })
      .map((entries) => new Map(entries)),
    key: fc.tuple(word, word),
  });

const situation = fc.integer({ min: 1, max: 40 }).chain((tokens) => {
  // Near to each other, in few steps (so that some are equal), or as far apart as numbers go.
  const logit = fc.oneof(
    fc.integer({ min: -30_000, max: 30_000 }),
    fc.integer({ min: -3, max: 3 }).map((step) => step * 4_096),
    fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 }),
  );
  return fc.record({
    logits: fc
      .array(logit, { minLength: tokens, maxLength: tokens })
      .map((values) => Int32Array.from(values)),
    parameters: parametersOf(tokens),
    counts: fc
      .array(fc.tuple(fc.integer({ min: 0, max: tokens }), fc.integer({ min: 1, max: 65_536 })), {
        maxLength: 4,
      })
      .map((entries) => new Map(entries)),
    position: fc.oneof(fc.constantFrom(0, 1), fc.integer({ min: 0, max: 2 ** 20 })),
    allowed: fc
      .uniqueArray(fc.integer({ min: 0, max: tokens - 1 }), { minLength: 1 })
      .map((ids) => new Set(ids)),
  });
});

test("chooses what the specification chooses, with all parameters at once", () => {
  fc.assert(
    fc.property(situation, ({ logits, parameters, counts, position }) => {
      const before = logits.slice();
      const expected = plainToken(logits, parameters, counts, position);
      assert.equal(sampleToken(logits, parameters, counts, position), expected);
      assert.deepEqual(logits, before);
    }),
    { numRuns: 5_000 },
  );
});

test("tokens that a constraint forbids do not exist, whatever the parameters", () => {
  fc.assert(
    fc.property(situation, ({ logits, parameters, counts, position, allowed }) => {
      const mask = new Int32Array(Math.ceil(logits.length / 32));
      for (const id of allowed) mask[id >>> 5]! |= 1 << (id & 31);
      const expected = plainToken(logits, parameters, counts, position, (id) => allowed.has(id));
      assert.equal(sampleToken(logits, parameters, counts, position, mask), expected);
    }),
    { numRuns: 5_000 },
  );
});

test("temperature 0 is the largest logit, the first of equal ones, whatever the other parameters", () => {
  fc.assert(
    fc.property(situation, ({ logits, parameters }) => {
      const greedy = { ...parameters, inverseTemperature: 0, bias: new Map<number, number>() };
      const inRange = logits.map((value) => value % 2 ** 28);
      assert.equal(sampleToken(inRange, greedy, none, 3), inRange.indexOf(Math.max(...inRange)));
    }),
  );
  assert.equal(sampleToken(Int32Array.of(1, 5, 5, 5), { ...plain, inverseTemperature: 0 }, none, 0), 1);
});

test("the same key and position draw the same; another of either draws anew", () => {
  const logits = new Int32Array(5_000);
  const token = (key: number, position: number): number =>
    sampleToken(logits, { ...plain, key: [key, 0] }, none, position);
  assert.equal(token(7, 3), token(7, 3));
  const drawn = new Set(Array.from({ length: 20 }, (_, i) => [token(i, 0), token(0, i + 1)]).flat());
  assert.ok(drawn.size > 35, `${drawn.size} different ones of 40`);
});

test("what can no longer win changes nothing, and what can tie does", () => {
  // Draws of 0 and 65,535 at the same position: the least and the most that noise does.
  for (const { position, least, most } of [
    { position: 118_432, least: 7, most: 2_347 },
    { position: 218, least: 3_717, most: 2_783 },
  ]) {
    assert.deepEqual([drawOf(least, position, [1, 0]), drawOf(most, position, [1, 0])], [0, 65_535]);
    const spread = gumbelTailTable()[drawOf(most, position, [1, 0], 1)]! + 10_104;
    const winner = (distance: number): number => {
      const logits = new Int32Array(4_000).fill(-1_000_000);
      logits[least] = 0;
      logits[most] = -distance;
      return sampleToken(logits, plain, none, position);
    };
    assert.equal(winner(spread - 1), most);
    assert.equal(winner(spread), Math.min(least, most));
    assert.equal(winner(spread + 1), least);
  }
});

test("filters leave the sets they promise", () => {
  const logits = Int32Array.from([0.5, 0.25, 0.125, 0.0625, 0.0625], (p) => Math.round(4_096 * Math.log(p)));
  const kept = (given: Partial<SamplerParameters>): number[] => {
    const parameters = { ...plain, ...given };
    const expected = plainCandidates(plainScores(logits, parameters, none), parameters);
    const drawn = new Set(
      Array.from({ length: 2_000 }, (_, position) => sampleToken(logits, parameters, none, position)),
    );
    assert.deepEqual(drawn, new Set(expected));
    return expected;
  };
  const part = (p: number): number => Math.round(p * 2 ** 16);
  assert.deepEqual(kept({}), [0, 1, 2, 3, 4]);
  assert.deepEqual(kept({ topK: 1 }), [0]);
  assert.deepEqual(kept({ topK: 4 }), [0, 1, 2, 3]);
  assert.deepEqual(kept({ topP: 0 }), [0]);
  assert.deepEqual(kept({ topP: part(0.49) }), [0]);
  assert.deepEqual(kept({ topP: part(0.51) }), [0, 1]);
  assert.deepEqual(kept({ topP: part(0.87) }), [0, 1, 2]);
  // Shares are those of what top-k leaves: 2/3 and 1/3.
  assert.deepEqual(kept({ topK: 2, topP: part(0.66) }), [0]);
  assert.deepEqual(kept({ topK: 2, topP: part(0.68) }), [0, 1]);
  assert.deepEqual(kept({ minP: part(0.24) }), [0, 1, 2]);
  assert.deepEqual(kept({ minP: part(0.26) }), [0, 1]);
  assert.deepEqual(kept({ minP: part(1) }), [0]);
});

/** Sum of squared deviations from what is expected, over what is expected. */
function chiSquare(observed: ArrayLike<number>, expected: readonly number[]): number {
  return expected.reduce((sum, e, i) => sum + ((observed[i] ?? 0) - e) ** 2 / e, 0);
}

/** What chi-square exceeds once in 1,000 times (Wilson, Hilferty 1931). Seeds are fixed: a test fails always or never. */
function chiSquareLimit(freedom: number): number {
  const part = 2 / (9 * freedom);
  return freedom * (1 - part + 3.09 * Math.sqrt(part)) ** 3;
}

function softmax(logits: Int32Array, temperature: number): number[] {
  const weights = Array.from(logits, (logit) => Math.exp(logit / 4_096 / temperature));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}

function assertDistributed(expected: readonly number[], draw: (i: number) => number, draws: number): void {
  const observed = new Int32Array(expected.length);
  for (let i = 0; i < draws; i++) observed[draw(i)]! += 1;
  const value = chiSquare(
    observed,
    expected.map((p) => p * draws),
  );
  const limit = chiSquareLimit(expected.length - 1);
  assert.ok(value < limit, `chi-square ${value}, limit ${limit}: ${observed.join(" ")}`);
}

const draws = 100_000;
const unequal = Int32Array.from([2, 1.5, 1, 0.9, 0, -0.5, -1, -2, -3, -4.5], (x) => Math.round(x * 4_096));

test("draws follow the softmax: over positions, over keys, at any temperature", () => {
  for (const temperature of [0.5, 1, 2]) {
    const { inverseTemperature } = samplerParameters(sampling({ temperature }));
    const parameters = { ...plain, inverseTemperature };
    const expected = softmax(unequal, temperature);
    assertDistributed(expected, (i) => sampleToken(unequal, parameters, none, i), draws);
    const keyed = (i: number): number => sampleToken(unequal, { ...parameters, key: [i, 0] }, none, 0);
    assertDistributed(expected, keyed, draws);
  }
});

test("two draws after one another are independent", () => {
  const expected = softmax(unequal.subarray(0, 4), 1);
  const pairs = expected.flatMap((p) => expected.map((q) => p * q));
  const four = unequal.slice(0, 4);
  const pair = (i: number): number =>
    4 * sampleToken(four, plain, none, 2 * i) + sampleToken(four, plain, none, 2 * i + 1);
  assertDistributed(pairs, pair, draws);
  // Nor does a token's draw depend on that of its neighbours in a block, or of other keys.
  const keyed = (i: number): number =>
    4 * sampleToken(four, { ...plain, key: [i, 0] }, none, 5) +
    sampleToken(four, { ...plain, key: [i + 1, 0] }, none, 5);
  assertDistributed(pairs, keyed, draws / 2);
});

test("candidates among many draw as they do alone, with filters, penalties and bias", () => {
  const logits = new Int32Array(80).fill(-20 * 4_096);
  const places = unequal.map((_, i) => 7 * i + 3);
  for (const [i, place] of places.entries()) logits[place] = unequal[i]!;
  const indexOf = (token: number): number => places.indexOf(token);
  // 1. The five most likely only.
  const five = softmax(unequal.subarray(0, 5), 1);
  assertDistributed(five, (i) => indexOf(sampleToken(logits, { ...plain, topK: 5 }, none, i)), draws);
  // 2. Penalties of a nat for being there and a half for each time; a bias of three.
  const parameters = {
    ...plain,
    topK: 10,
    presencePenalty: 4_096,
    frequencyPenalty: 2_048,
    bias: new Map([[places[9]!, 3 * 4_096]]),
  };
  const counts = new Map([
    [places[0]!, 1],
    [places[1]!, 3],
  ]);
  const changed = unequal.slice();
  changed[0]! -= 1.5 * 4_096;
  changed[1]! -= 2.5 * 4_096;
  changed[9]! += 3 * 4_096;
  const expected = softmax(changed, 1);
  assertDistributed(expected, (i) => indexOf(sampleToken(logits, parameters, counts, i)), draws);
});

test("tokens of a long flat tail are drawn as often as they should", () => {
  // 20,000 tokens of 5 · 10^−6 each: together a tenth.
  const tail = 20_000;
  const logits = new Int32Array(tail + 1);
  logits[0] = Math.round(4_096 * Math.log(0.9 / (0.1 / tail)));
  const count = 4_000;
  let inTail = 0;
  for (let i = 0; i < count; i++) if (sampleToken(logits, plain, none, i) !== 0) inTail++;
  // Five standard deviations.
  assert.ok(Math.abs(inTail / count - 0.1) < 5 * Math.sqrt(0.09 / count), `${inTail} of ${count}`);
});

test("the noise's mean is that of Gumbel's distribution, by its table", () => {
  const mean = gumbelTable().reduce((a, b) => a + b, 0) / 65_536 / 4_096;
  assert.ok(Math.abs(mean - 0.5772156649) < 2e-5, `${mean}`);
});

function sampling(given: Partial<Sampling>): Sampling {
  return {
    temperature: 1,
    topP: 1,
    topK: 0,
    minP: 0,
    presencePenalty: 0,
    frequencyPenalty: 0,
    logitBias: [],
    seed: 0,
    ...given,
  };
}

test("a request's parameters become integers, and absurd ones the nearest possible", () => {
  const of = (given: Partial<Sampling>) => samplerParameters(sampling(given));
  assert.equal(of({ temperature: 0 }).inverseTemperature, 0);
  assert.equal(of({ temperature: 1 }).inverseTemperature, 2 ** 16);
  assert.equal(of({ temperature: 2 }).inverseTemperature, 2 ** 15);
  assert.equal(of({ temperature: 1e-300 }).inverseTemperature, inverseTemperatureMax);
  assert.equal(of({ temperature: 1e300 }).inverseTemperature, 1);
  assert.equal(of({ topP: 0.9 }).topP, 58_982);
  assert.equal(of({ topP: 7 }).topP, 2 ** 16);
  assert.equal(of({ minP: 0.05 }).minP, 3_277);
  assert.equal(of({ presencePenalty: 0.5, frequencyPenalty: -2 }).frequencyPenalty, -8_192);
  assert.equal(of({ presencePenalty: 1e9 }).presencePenalty, 4_096_000);
  assert.deepEqual(of({ logitBias: [[3, -100]] }).bias, new Map([[3, -409_600]]));
  assert.deepEqual(of({ seed: 2 ** 32 - 1 }).key, [2 ** 32 - 1, 0]);
});
