import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SkeinError } from "./errors.ts";
import { BoundedQueue } from "./queue.ts";

async function collect<T>(queue: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of queue) items.push(item);
  return items;
}

test("what is pushed comes out in order, however pushes and reads interleave", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.integer(), fc.boolean()), { maxLength: 50 }), async (script) => {
      const queue = new BoundedQueue<number>(100);
      const reading = collect(queue);
      for (const [item, yieldAfter] of script) {
        queue.push(item);
        if (yieldAfter) await Promise.resolve();
      }
      queue.end();
      assert.deepEqual(
        await reading,
        script.map(([item]) => item),
      );
    }),
  );
});

test("a full queue refuses and keeps what it has", async () => {
  const queue = new BoundedQueue<number>(2);
  queue.push(1);
  queue.push(2);
  assert.throws(
    () => queue.push(3),
    (error) => error instanceof SkeinError && error.code === "overloaded",
  );
  queue.end();
  assert.deepEqual(await collect(queue), [1, 2]);
});

test("fail delivers the queued items first, then throws", async () => {
  const queue = new BoundedQueue<number>(2);
  queue.push(1);
  queue.fail(new Error("gone"));
  queue.push(2);
  const items: number[] = [];
  await assert.rejects(async () => {
    for await (const item of queue) items.push(item);
  }, /gone/);
  assert.deepEqual(items, [1]);
});
