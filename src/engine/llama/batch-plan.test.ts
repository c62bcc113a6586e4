import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  ArrangementChooser,
  batchTokensMax,
  gapsBetween,
  planStep,
  type Reader,
  sharedPrefillTokensMax,
} from "./batch-plan.ts";

const readers = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 3000 }), fc.constantFrom(Infinity, 63)), {
    minLength: 1,
    maxLength: 32,
  })
  .map((list): Reader[] => list.map(([pending, chunkMax], id) => ({ slot: { id }, pending, chunkMax })));

test("a step fits the batch, serves every decoding sequence and always gets somewhere", () => {
  fc.assert(
    fc.property(readers, (active) => {
      const shares = planStep(active);
      const sum = shares.reduce((total, { count }) => total + count, 0);
      assert.ok(sum > 0 && sum <= batchTokensMax);
      for (const reader of active.filter(({ pending }) => pending === 1)) {
        assert.equal(shares.find(({ sequence }) => sequence === reader)?.count, 1);
      }
      for (const { sequence, count } of shares) {
        assert.ok(count > 0 && count <= Math.min(sequence.pending, sequence.chunkMax));
      }
      const ids = shares.map(({ sequence }) => sequence.slot.id);
      assert.deepEqual(
        ids,
        ids.toSorted((a, b) => a - b),
      );
    }),
  );
});

function countsOf(...pending: number[]): number[] {
  const active = pending.map((n, id): Reader => ({ slot: { id }, pending: n, chunkMax: Infinity }));
  return planStep(active).map(({ count }) => count);
}

test("prompts share a step evenly; what a short one leaves goes to the long ones", () => {
  assert.deepEqual(countsOf(2000, 100, 2000), [206, 100, 206]);
  assert.deepEqual(countsOf(2000, 1), [sharedPrefillTokensMax, 1]);
});

test("the faster arrangement is chosen and, if the machine changes, chosen again", () => {
  const chooser = new ArrangementChooser();
  let paces = { together: 28, apart: 17 };
  const run = (steps: number): Record<string, number> => {
    const count = { together: 0, apart: 0 };
    for (let i = 0; i < steps; i++) {
      const arrangement = chooser.choose(4);
      count[arrangement] += 1;
      chooser.learn(4, arrangement, paces[arrangement]);
    }
    return count;
  };
  assert.ok(run(100)["apart"]! > 90);
  paces = { together: 10, apart: 40 };
  run(100);
  assert.ok(run(1000)["together"]! > 990);
});

test("what single steps show to be hopeless is not tried", () => {
  const chooser = new ArrangementChooser();
  for (let i = 0; i < 3; i++) {
    chooser.learn(1, chooser.choose(1), 10);
    chooser.learn(16, chooser.choose(16), 20);
  }
  assert.equal(chooser.choose(1), "together");
  assert.equal(chooser.choose(16), "together");
});

test("gaps between slots, unless they are more than the slots", () => {
  assert.deepEqual(gapsBetween([1, 2, 4, 6]), [3, 5]);
  assert.deepEqual(gapsBetween([3]), []);
  assert.deepEqual(gapsBetween([0, 9]), []);
});
