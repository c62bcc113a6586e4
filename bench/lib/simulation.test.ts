import assert from "node:assert/strict";
import { test } from "node:test";
import { simulate } from "./simulation.ts";

const seeds = Array.from({ length: 100 }, (_, seed) => seed);

test("100 seeds of churn, loss, delay and lies: no error, nothing altered, nothing counted twice", async () => {
  let attempts = 0;
  for (const seed of seeds) {
    const { errors, altered, miscounted, ...seen } = await simulate(seed);
    assert.deepEqual(
      { errors, altered, miscounted },
      { errors: [], altered: 0, miscounted: 0 },
      `seed ${seed}`,
    );
    attempts += seen.attempts;
  }
  assert.ok(attempts > seeds.length * 12, "nothing was disturbed");
});
