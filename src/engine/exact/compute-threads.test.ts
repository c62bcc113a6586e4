/** Several threads share the work of a step: the same bits as the reference, and a dead thread is noticed. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Worker } from "node:worker_threads";
import { describeExecutor } from "../../exact/executor.suite.ts";
import { diceOfSeed, giveModel, randomModel, randomShape } from "../../exact/random-model.suite.ts";
import {
  createWasmExecutor,
  type WasmExecutor,
  type WasmExecutorOptions,
} from "../../exact/wasm/executor.ts";
import type { StartThreads } from "../../exact/wasm/team.ts";
import { ask, collect } from "../asking.suite.ts";
import { startComputeThreads } from "./compute-threads.ts";
import { openEngine } from "./fixture.suite.ts";

const open: WasmExecutor[] = [];
after(() => {
  for (const executor of open) executor.close();
});

/** Threads of earlier models, which sleep, must not become too many. */
const openMax = 4;

describeExecutor(
  "wasm on three threads",
  async (model, options) => {
    const start = startComputeThreads((reason) => assert.fail(reason));
    const making = createWasmExecutor(model.shape, {
      ...options,
      range: model.range,
      threads: { count: 3, start },
    });
    await giveModel(model, making.sink);
    const executor = making.executor();
    open.push(executor);
    if (open.length > openMax) open.shift()!.close();
    return executor;
  },
  { tokensMin: 300, rare: false },
);

/** Wakes whoever sleeps at a barrier, again and again, although the barrier is still closed. */
const waker = `
  const { workerData: { memory, control } } = require("node:worker_threads");
  const words = new Int32Array(memory.buffer, control, 4);
  for (;;) Atomics.notify(words, 1);
`;

test("whoever is woken before all have come goes on waiting", async () => {
  const shape = randomShape(diceOfSeed(3), { layers: 3, dim: 256, ffnDim: 512, contextTokensMax: 64 });
  const model = await randomModel(diceOfSeed(4), shape, "calm");
  const tokens = Array.from({ length: 40 }, (_, i) => i % shape.vocabularySize);
  const logitsWith = async (threads?: WasmExecutorOptions["threads"]): Promise<(Int32Array | null)[]> => {
    const making = createWasmExecutor(shape, threads === undefined ? {} : { threads });
    await giveModel(model, making.sink);
    const executor = making.executor();
    const sequence = executor.newSequence();
    try {
      return tokens.flatMap((input) => executor.step([{ sequence, input, wantsLogits: true }]));
    } finally {
      executor.close();
    }
  };
  let disturbing: Worker | undefined;
  const start: StartThreads = (members) => {
    const { kernels, control } = members[0]!;
    disturbing = new Worker(waker, { eval: true, workerData: { memory: kernels.memory, control } });
    return startComputeThreads((reason) => assert.fail(reason))(members);
  };
  const disturbed = await logitsWith({ count: 3, start });
  await disturbing!.terminate();
  assert.deepEqual(disturbed, await logitsWith());
});

test("threads that missed each other never answer again", async () => {
  const model = await randomModel(diceOfSeed(1), randomShape(diceOfSeed(2)), "calm");
  const nobody = { count: 2, start: () => () => undefined, meetTimeoutMs: 50 };
  const making = createWasmExecutor(model.shape, { threads: nobody });
  await giveModel(model, making.sink);
  const executor = making.executor();
  assert.equal(executor.isReady(), false);
  const row = { sequence: executor.newSequence(), input: 0, wantsLogits: true };
  assert.throws(() => executor.step([row]), /does not answer/);
  assert.throws(() => executor.step([row]), /was not finished/);
});

test("an engine on two threads answers as one on one thread does", async () => {
  const answers = [];
  for (const threads of [1, 2]) {
    const engine = await openEngine({ threads });
    try {
      const question = ask("Tell me a story.", { outputTokensMax: 30 });
      answers.push(
        await collect(engine, { ...question, sampling: { ...question.sampling, temperature: 1, seed: 3 } }),
      );
    } finally {
      await engine.close();
    }
  }
  const [alone, together] = answers.map((answer) =>
    JSON.stringify(answer, (key, value) => (key === "timings" ? 0 : value)),
  );
  assert.equal(together, alone);
});
