import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { Admission } from "./admission.ts";

const never = (): AbortSignal => new AbortController().signal;
const code = (expected: string) => (error: unknown) => error instanceof SkeinError && error.code === expected;

test("who comes first is admitted first, never more than there are slots", async () => {
  const admission = new Admission(2);
  const order: number[] = [];
  let inside = 0;
  await Promise.all(
    Array.from({ length: 6 }, async (_, i) => {
      const leave = await admission.enter(never());
      order.push(i);
      inside += 1;
      assert.ok(inside <= 2);
      await new Promise(setImmediate);
      inside -= 1;
      leave();
    }),
  );
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(admission.load(), { active: 0, queued: 0 });
});

test("leaving twice gives back one slot", async () => {
  const admission = new Admission(1);
  const leave = await admission.enter(never());
  const second = admission.enter(never());
  const third = admission.enter(never());
  leave();
  leave();
  const leaveSecond = await second;
  assert.deepEqual(admission.load(), { active: 1, queued: 1 });
  leaveSecond();
  (await third)();
  assert.deepEqual(admission.load(), { active: 0, queued: 0 });
});

test("a full queue refuses", async () => {
  const admission = new Admission(1, 2);
  const leave = await admission.enter(never());
  const waiting = [admission.enter(never()), admission.enter(never())];
  await assert.rejects(admission.enter(never()), code("overloaded"));
  assert.deepEqual(admission.load(), { active: 1, queued: 2 });
  leave();
  (await waiting[0]!)();
  (await waiting[1]!)();
  const again = await admission.enter(never());
  again();
});

test("who is aborted while waiting leaves the queue with the reason, and no listener stays", async () => {
  const admission = new Admission(1);
  const leave = await admission.enter(never());
  const [plain, reasoned, patient] = [new AbortController(), new AbortController(), new AbortController()];
  const first = assert.rejects(admission.enter(plain.signal), code("cancelled"));
  const second = assert.rejects(admission.enter(reasoned.signal), code("deadline_exceeded"));
  const third = admission.enter(patient.signal);
  plain.abort();
  reasoned.abort(new SkeinError("deadline_exceeded", "Too late."));
  await Promise.all([first, second]);
  assert.deepEqual(admission.load(), { active: 1, queued: 1 });
  leave();
  const leaveThird = await third;
  assert.equal(getEventListeners(patient.signal, "abort").length, 0);
  // Later it is the holder's business.
  patient.abort();
  assert.deepEqual(admission.load(), { active: 1, queued: 0 });
  leaveThird();
  await assert.rejects(admission.enter(patient.signal), code("cancelled"));
  assert.deepEqual(admission.load(), { active: 0, queued: 0 });
});

test("all who wait can be refused; who is inside stays", async () => {
  const admission = new Admission(1);
  const leave = await admission.enter(never());
  const waiting = [admission.enter(never()), admission.enter(never())];
  admission.refuseAll(new SkeinError("engine_unavailable", "It is closed."));
  for (const refused of waiting) await assert.rejects(refused, code("engine_unavailable"));
  assert.deepEqual(admission.load(), { active: 1, queued: 0 });
  leave();
  assert.deepEqual(admission.load(), { active: 0, queued: 0 });
});
