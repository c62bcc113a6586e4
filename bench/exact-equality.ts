/**
 * The WebAssembly executor beside the reference on random models: every leaf and every output compared bit by bit,
 * with rows in random steps, sequences in random company, and models in random stages.
 *
 *   npm run bench -- exact-equality [--quick] [--seed n] [--threads n]
 */
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { sharedWork, threadsReady } from "../src/engine/exact/compute-threads.ts";
import { compareModels, type MakeExecutor } from "../src/exact/equality.suite.ts";
import { giveModel } from "../src/exact/random-model.suite.ts";
import { createWasmExecutor } from "../src/exact/wasm/executor.ts";

const { values } = parseArgs({
  options: { quick: { type: "boolean" }, seed: { type: "string" }, threads: { type: "string" } },
});
const seed = Number(values.seed ?? 1);
/** That share the work of every model. */
const threads = Number(values.threads ?? 1);
const tokensMin = values.quick ? 10_000 : 100_000;

const table = new Table({
  head: ["weights", "models", "tokens", "leaves", "outputs", "differing bits", "seconds"],
});
const sums = { models: 0, tokens: 0, leaves: 0, outputs: 0, differingBits: 0 };
// Half of the tokens with each kind of weights.
for (const quantization of ["int8-row", "int4-group32"] as const) {
  const startMs = performance.now();
  const make: MakeExecutor = async (model, options) => {
    const making = createWasmExecutor(model.shape, {
      ...options,
      range: model.range,
      ...sharedWork(threads, (reason) => {
        throw new Error(reason);
      }),
    });
    await giveModel(model, making.sink);
    const executor = making.executor();
    await threadsReady(executor);
    return executor;
  };
  const result = await compareModels(seed, tokensMin / 2, make, quantization);
  const seconds = (performance.now() - startMs) / 1000;
  const { models, tokens, leaves, outputs, differingBits } = result;
  table.push([quantization, models, tokens, leaves, outputs, differingBits, seconds.toFixed(1)]);
  for (const key of ["models", "tokens", "leaves", "outputs", "differingBits"] as const) {
    sums[key] += result[key];
  }
  if (differingBits === 0) continue;
  console.error(`The first difference with ${quantization} is in the model of seed ${result.seed}.`);
  process.exitCode = 1;
}
console.log(table.toString());
console.log(JSON.stringify({ seed, threads, ...sums }));
