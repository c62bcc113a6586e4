import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../../util/errors.ts";
import { diceOfSeed, giveModel, randomModel, randomShape } from "../random-model.suite.ts";
import { createReferenceExecutor } from "../reference/executor.ts";
import { createWasmExecutor, type WasmExecutor, type WasmExecutorOptions } from "./executor.ts";
import { pagePositions } from "./pages.ts";

/** Contexts of this shape take 1.6 GB of addresses each, and no memory as long as they are empty. */
const shape = randomShape(diceOfSeed(1), {
  layers: 3,
  dim: 16,
  ffnDim: 16,
  heads: 8,
  headsKv: 8,
  headDim: 256,
  vocabularySize: 5,
  contextTokensMax: 65_536,
});
const model = await randomModel(diceOfSeed(2), shape, "calm");

async function executorWith(options: WasmExecutorOptions): Promise<WasmExecutor> {
  const making = createWasmExecutor(shape, options);
  await giveModel(model, making.sink);
  return making.executor();
}

function hasCode(wanted: string): (error: unknown) => boolean {
  return (error) => error instanceof SkeinError && error.code === wanted;
}

test("addresses beyond 2 GiB are addresses; beyond 4 GiB there is no memory", async (t) => {
  let own: WasmExecutor;
  try {
    own = await executorWith({ cacheTokensMax: 2 * 65_536 });
  } catch (error) {
    assert.ok(hasCode("overloaded")(error), String(error));
    t.skip("this machine lends no 3.2 GB of addresses");
    return;
  }
  const plain = createReferenceExecutor(model);
  const reference = plain.newSequence();
  // The first page that is lent is the last one of the pool, beyond 3 GiB.
  const sequence = own.newSequence();
  for (const input of [3, 1, 4]) {
    const [expected] = plain.step([{ sequence: reference, input, wantsLogits: true }]);
    assert.deepEqual(own.step([{ sequence, input, wantsLogits: true }]), [expected]);
  }
  await assert.rejects(executorWith({ cacheTokensMax: 3 * 65_536 }), hasCode("overloaded"));
});

test("pages are taken as they are needed, shared by forks, and given back", async () => {
  const own = await executorWith({ cacheTokensMax: 4 * pagePositions - 1, contextTokensMax: 200 });
  const rows = (sequence: ReturnType<typeof own.newSequence>, count: number) =>
    Array.from({ length: count }, (_, i) => ({ sequence, input: i % 5, wantsLogits: false }));
  assert.equal(own.freePages(), 4);
  const first = own.newSequence();
  assert.deepEqual([first.pagesTo(0), first.pagesTo(1), first.pagesTo(pagePositions + 1)], [0, 1, 2]);
  own.step(rows(first, pagePositions + 1));
  assert.equal(own.freePages(), 2);
  // A shared page is copied when one of its holders writes behind the common beginning.
  const second = first.fork(pagePositions + 1);
  assert.equal(own.freePages(), 2);
  assert.deepEqual([first.pagesTo(first.length), first.pagesTo(first.length + 1)], [0, 1]);
  own.step(rows(second, 1));
  assert.equal(own.freePages(), 1);
  assert.equal(first.pagesTo(first.length + 1), 0);
  // Refused before anything is computed or taken.
  const third = first.fork(pagePositions);
  const refused = [...rows(third, 1), ...rows(second, pagePositions)];
  assert.throws(() => own.step(refused), hasCode("overloaded"));
  assert.deepEqual([own.freePages(), third.length, second.length], [1, pagePositions, pagePositions + 2]);
  own.step(rows(third, 1));
  assert.equal(own.freePages(), 0);
  // Whole pages that nobody shares come back.
  second.truncate(pagePositions);
  assert.equal(own.freePages(), 1);
  for (const sequence of [first, second, third]) sequence.free();
  assert.equal(own.freePages(), 4);
});

test("a context may be cut to less than the model's, and is full there", async () => {
  const own = await executorWith({ contextTokensMax: 3 });
  assert.equal(own.contextTokensMax, 3);
  const sequence = own.newSequence();
  const rows = [1, 2, 3].map((input) => ({ sequence, input, wantsLogits: false }));
  own.step(rows);
  assert.throws(
    () => own.step([{ sequence, input: 0, wantsLogits: true }]),
    hasCode("context_length_exceeded"),
  );
});
