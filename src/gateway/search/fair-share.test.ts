import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../util/clock.ts";
import { FairShare } from "./fair-share.ts";

test("what runs is counted by owner; the wait follows from how often something ends", () => {
  const clock = new ManualClock();
  const share = new FairShare(clock);
  assert.equal(share.retryAfterSeconds("m", 10), 2, "unknown");
  for (let i = 0; i < 3; i++) share.began("a");
  share.began("b");
  for (let i = 0; i < 3; i++) {
    clock.advance(500);
    share.ended("a", "m");
  }
  assert.deepEqual([share.runningOf("a"), share.runningOf("b")], [0, 1]);
  assert.equal(share.retryAfterSeconds("m", 0), 1);
  assert.equal(share.retryAfterSeconds("m", 9), 5);
  assert.equal(share.retryAfterSeconds("m", 9_999), 60);
});
