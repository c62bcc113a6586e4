import assert from "node:assert/strict";
import { test } from "node:test";
import { threadsOf, threadsWarning } from "./provider-config.ts";

test("a model gets as many threads as there are cores at most, and what is not granted is said", () => {
  assert.deepEqual([threadsOf(null, 8), threadsOf(null, 1), threadsOf(8, 8), threadsOf(64, 8)], [7, 1, 8, 8]);
  assert.deepEqual([threadsWarning(null, 1), threadsWarning(8, 8)], [null, null]);
  assert.match(threadsWarning(64, 8)!, /64 threads.*8 cores/);
});
