import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../../src/util/random.ts";
import { machinesOf, type Policy, replay, scaleFor } from "./replay.ts";
import { syntheticTrace } from "./synthetic-trace.ts";

const trace = syntheticTrace(60, seededRandom(5));
const fleet = { providers: 6, seed: 5 };
const options = { ...fleet, scale: scaleFor(trace, machinesOf(fleet), 0.6), churn: 200 };

test("a replay answers every request whole, whoever chooses, and twice the same", async () => {
  for (const policy of ["router", "leastLoaded", "roundRobin", "random"] satisfies Policy[]) {
    const replayed = await replay(trace, policy, options);
    assert.equal(replayed.length, trace.length);
    for (const { error, ttftMs, tpotMs, promptTokens, cachedTokens } of replayed) {
      assert.equal(error, null, policy);
      assert.ok(ttftMs > 0 && (tpotMs ?? 1) > 0 && cachedTokens < promptTokens);
    }
    if (policy === "router") assert.deepEqual(await replay(trace, policy, options), replayed);
  }
});
