import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../../util/errors.ts";
import type { Executor, Sequence } from "../executor.ts";
import { diceOfSeed, giveModel, randomModel, randomShape } from "../random-model.suite.ts";
import { createReferenceExecutor } from "../reference/executor.ts";
import { createWasmExecutor } from "./executor.ts";

/** Shapes whose sequences take 1.6 GB of addresses each, and no memory as long as they are empty. */
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

async function executor(contextTokensMax: number): Promise<Executor> {
  const making = createWasmExecutor(shape, { contextTokensMax });
  await giveModel(model, making.sink);
  return making.executor();
}

function isOverloaded(error: unknown): boolean {
  return error instanceof SkeinError && error.code === "overloaded";
}

test("addresses beyond 2 GiB are addresses; beyond 4 GiB there is no memory, and what there is stays usable", async (t) => {
  const own = await executor(65_536);
  const sequences: Sequence[] = [];
  try {
    sequences.push(own.newSequence(), own.newSequence());
  } catch (error) {
    assert.ok(isOverloaded(error), String(error));
    t.skip("this machine lends no 3.2 GB of addresses");
    return;
  }
  assert.throws(() => own.newSequence(), isOverloaded);
  const plain = createReferenceExecutor(model);
  const reference = plain.newSequence();
  for (const input of [3, 1, 4]) {
    const [expected] = plain.step([{ sequence: reference, input, wantsLogits: true }]);
    for (const sequence of sequences) {
      assert.deepEqual(own.step([{ sequence, input, wantsLogits: true }]), [expected]);
    }
  }
  // What one gives back, the next one takes.
  sequences[0]!.free();
  const again = own.newSequence();
  assert.equal(again.length, 0);
  assert.throws(() => own.newSequence(), isOverloaded);
});

test("a context may be cut to less than the model's, and is full there", async () => {
  const own = await executor(3);
  assert.equal(own.contextTokensMax, 3);
  const sequence = own.newSequence();
  const rows = [1, 2, 3].map((input) => ({ sequence, input, wantsLogits: false }));
  own.step(rows);
  assert.throws(
    () => own.step([{ sequence, input: 0, wantsLogits: true }]),
    (error) => error instanceof SkeinError && error.code === "context_length_exceeded",
  );
});
