import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { planStep, type Reader } from "./step-plan.ts";

const limits = { prefillTokensMax: 512, sharedPrefillTokensMax: 128 };

const readers = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 3000 }), fc.constantFrom(Infinity, 63)), {
    minLength: 1,
    maxLength: 32,
  })
  .map((list): Reader[] =>
    list.map(([pending, chunkMax], order) => ({ order, pending, chunkMax, servedAt: 0 })),
  );

test("a step fits the batch, serves every decoding sequence and always gets somewhere", () => {
  fc.assert(
    fc.property(readers, (active) => {
      const shares = planStep(active, limits);
      const sum = shares.reduce((total, { count }) => total + count, 0);
      assert.ok(sum > 0 && sum <= limits.prefillTokensMax);
      for (const reader of active.filter(({ pending }) => pending === 1)) {
        assert.equal(shares.find(({ sequence }) => sequence === reader)?.count, 1);
      }
      for (const { sequence, count } of shares) {
        assert.ok(count > 0 && count <= Math.min(sequence.pending, sequence.chunkMax));
      }
      const ids = shares.map(({ sequence }) => sequence.order);
      assert.deepEqual(
        ids,
        ids.toSorted((a, b) => a - b),
      );
    }),
  );
});

function countsOf(...pending: number[]): number[] {
  const active = pending.map((n, order): Reader => ({
    order,
    pending: n,
    chunkMax: Infinity,
    servedAt: 0,
  }));
  return planStep(active, limits).map(({ count }) => count);
}

test("prompts share a step evenly; what a short one leaves goes to the long ones", () => {
  assert.deepEqual(countsOf(2000, 100, 2000), [206, 100, 206]);
  assert.deepEqual(countsOf(2000, 1), [limits.sharedPrefillTokensMax, 1]);
});

test("more prompts than a step has room for take turns, beside any number that decode", () => {
  const limitsNow = { prefillTokensMax: 64, sharedPrefillTokensMax: 20 };
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 2, max: 300 }), { minLength: 1, maxLength: 40 }),
      fc.boolean(),
      (lengths, someDecode) => {
        const reading = lengths.map((pending, order) => ({
          order,
          pending,
          chunkMax: Infinity,
          servedAt: 0,
        }));
        const decoding = { order: -1, pending: 1, chunkMax: Infinity, servedAt: 0 };
        const perStep = someDecode ? 2 : 8;
        for (let step = 1; reading.some(({ pending }) => pending > 1); step++) {
          const open = reading.filter(({ pending }) => pending > 1);
          const shares = planStep(someDecode ? [...open, decoding] : open, limitsNow);
          for (const { sequence, count } of shares) {
            sequence.servedAt = step;
            if (sequence !== decoding) sequence.pending -= Math.min(count, sequence.pending - 1);
          }
          // Nobody waits longer than it takes to serve everybody else.
          for (const { servedAt } of open) assert.ok(step - servedAt <= Math.ceil(lengths.length / perStep));
        }
      },
    ),
  );
});
