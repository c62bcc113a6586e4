import assert from "node:assert/strict";
import { test } from "node:test";
import { type Shares, simulateDistances } from "./simulated-distances.ts";

const seeds = [1, 2];

/** What chance may bring one far provider: three standard deviations of a count less the mean of two. */
function most({ far }: Shares): number {
  return far + 3 * Math.sqrt(1.5 * far);
}

async function sum(options: Parameters<typeof simulateDistances>[1]): Promise<Shares> {
  const total = {
    near: 0,
    far: 0,
    liar: 0,
    liarRoundTripMs: Number.POSITIVE_INFINITY,
    errors: [] as string[],
  };
  for (const seed of seeds) {
    const shares = await simulateDistances(seed, options);
    for (const role of ["near", "far", "liar"] as const) total[role] += shares[role];
    total.liarRoundTripMs = Math.min(total.liarRoundTripMs, shares.liarRoundTripMs);
    total.errors.push(...shares.errors);
  }
  return total;
}

test("a far provider that says it is near gets no more than far ones; one that is near gets more", async () => {
  const lied = await sum({});
  assert.ok(lied.far > 20, "the near ones were not full: the test says nothing");
  assert.ok(lied.liar <= most(lied), JSON.stringify(lied));
  assert.ok(lied.liarRoundTripMs >= 240, `it seems to be ${lied.liarRoundTripMs} ms away`);
  const restless = await sum({ isRestless: true });
  assert.ok(restless.liar <= most(restless), JSON.stringify(restless));
  const truth = await sum({ liarMs: 8 });
  assert.ok(truth.liar > most(truth), "being near is worth nothing here");
});

test("requests for a region do not go to who cannot be there", async () => {
  const lied = await sum({ hint: "home" });
  assert.deepEqual([lied.liar, lied.far], [0, 0]);
  assert.ok(lied.near > 0);
  const restless = await sum({ hint: "home", isRestless: true });
  assert.equal(restless.liar, 0, "nor to one that comes back before it was measured for long");
});
