import assert from "node:assert/strict";
import { test } from "node:test";
import { BesideShare } from "./beside.ts";

function learn(beside: BesideShare, lateness: number, isBeside: boolean, times: number): void {
  for (let i = 0; i < times; i++) beside.learn(lateness, isBeside);
}

test("where nobody notes batches beside, they may use all slots", () => {
  const beside = new BesideShare();
  const before = beside.share;
  learn(beside, 1, true, 100);
  assert.equal(beside.share, before, "nothing to compare with");
  learn(beside, 1, false, 10);
  learn(beside, 1.15, true, 7 * 12);
  assert.equal(beside.share, 1);
});

test("where first tokens get later, batches use less, then none, and are tried again now and then", () => {
  const beside = new BesideShare();
  learn(beside, 2, false, 10);
  learn(beside, 2, true, 3 * 12);
  assert.equal(beside.share, 0.5);
  const seen: number[] = [];
  for (let i = 0; i < 3; i++) {
    learn(beside, 3, true, 12);
    seen.push(beside.share);
  }
  assert.deepEqual(seen, [0.25, 0.125, 0]);
  learn(beside, 2, false, 399);
  assert.equal(beside.share, 0);
  learn(beside, 2, false, 1);
  assert.equal(beside.share, 0.125);
  learn(beside, 3, true, 12);
  assert.equal(beside.share, 0);
});
