import assert from "node:assert/strict";
import { test } from "node:test";
import { shareOne } from "../../audit/selection.ts";
import { type GatewayTask, PendingReceipts } from "./pending.ts";

function taskOf(number: number): GatewayTask {
  const receiptHash = new Uint8Array(32);
  new DataView(receiptHash.buffer).setUint32(0, number);
  const answer = { index: 0, prompt: null, parts: [] };
  const facts = { owner: "", answer, requestId: "", chosenBy: "beacon", probability: 1 } as const;
  return { receiptHash, modelId: "m", round: 1, facts } as unknown as GatewayTask;
}

test("what is chosen beyond the room is told of and counted, never silently lost", async () => {
  const dropped: GatewayTask[] = [];
  const beacon = { value: async () => new Uint8Array(32) };
  const pending = new PendingReceipts(beacon as never, (task) => dropped.push(task));
  for (let i = 0; i < 1_150; i++) assert.ok(pending.add({ task: taskOf(i), share: shareOne }));
  const stop = new AbortController();
  let given = 0;
  for await (const task of pending.tasks(stop.signal)) {
    assert.equal(task.modelId, "m");
    if (++given === 1_000) stop.abort();
  }
  // The first hundred by name, all by number.
  assert.deepEqual([given, dropped.length, pending.dropped], [1_000, 100, 150]);
});
