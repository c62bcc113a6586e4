import assert from "node:assert/strict";
import { test } from "node:test";
import { StallBound, stallMinMs } from "./stall-bound.ts";

/** The bound after tokens that came with these gaps. */
function boundAfter(gapsMs: readonly number[], usual: number | null = null): number {
  const bound = new StallBound(30_000, usual);
  let nowMs = 0;
  for (const gapMs of gapsMs) {
    bound.wait(nowMs);
    nowMs += gapMs;
    bound.heard(nowMs);
  }
  return bound.timeoutMs;
}

const steady = (gapMs: number): number[] => Array.from({ length: 20 }, () => gapMs);

test("a stall is silence that is long for this provider, never less than chance explains", () => {
  assert.equal(boundAfter(steady(10)), stallMinMs);
  assert.equal(boundAfter(steady(500)), 10_000);
  assert.equal(boundAfter(steady(5_000)), 30_000, "never more than is allowed");
});

test("nothing is concluded from a few tokens", () => {
  assert.equal(boundAfter([]), 30_000);
  assert.equal(boundAfter([10, 10, 10]), 30_000);
  assert.equal(boundAfter([10, 10, 10], 100), 30_000);
});

test("a provider that sends in bursts is given its pauses", () => {
  const bursts = Array.from({ length: 40 }, (_, i) => (i % 8 === 0 ? 4_000 : 1));
  assert.equal(boundAfter(bursts), 16_000);
});

test("time in which nobody waits is no silence", () => {
  const bound = new StallBound(30_000, null);
  for (let i = 0; i < 20; i++) {
    bound.heard(i * 60_000 + 10);
    bound.wait(i * 60_000 + 10);
    bound.heard(i * 60_000 + 20);
  }
  assert.equal(bound.timeoutMs, stallMinMs);
});
