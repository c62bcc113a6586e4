import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Credit } from "./credit.ts";

const isReady = (waiting: Promise<void>): Promise<boolean> =>
  Promise.race([waiting.then(() => true), new Promise<boolean>((resolve) => setTimeout(resolve, 1, false))]);

test("credit runs out by frames or by bytes, and comes back with what was read", async () => {
  const { signal } = new AbortController();
  for (const credit of [new Credit(2, 1_000), new Credit(100, 20)]) {
    credit.spend(10);
    assert.equal(await isReady(credit.available(signal)), true);
    credit.spend(10);
    const waiting = credit.available(signal);
    assert.equal(await isReady(waiting), false);
    credit.grant(1);
    assert.equal(await isReady(waiting), true);
  }
});

test("more credit than was spent is worth nothing", async () => {
  const { signal } = new AbortController();
  const credit = new Credit(1, 1_000);
  credit.grant(50);
  credit.spend(1);
  assert.equal(await isReady(credit.available(signal)), false);
});

test("waiting leaves no listener behind, and ends with the signal", async () => {
  const abort = new AbortController();
  const credit = new Credit(1, 1_000);
  for (let i = 0; i < 20; i++) {
    credit.spend(1);
    const waiting = credit.available(abort.signal);
    credit.grant(1);
    await waiting;
  }
  assert.equal(getEventListeners(abort.signal, "abort").length, 0);
  credit.spend(1);
  const waiting = credit.available(abort.signal);
  abort.abort();
  assert.equal(await isReady(waiting), true);
});
