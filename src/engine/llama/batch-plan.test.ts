import assert from "node:assert/strict";
import { test } from "node:test";
import { ArrangementChooser, gapsBetween } from "./batch-plan.ts";

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
