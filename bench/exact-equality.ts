/**
 * The WebAssembly executor beside the reference on random models: every leaf and every output compared bit by bit,
 * with rows in random steps, sequences in random company, and models in random stages.
 *
 *   npm run bench -- exact-equality [--quick] [--seed n]
 */
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { compareModels } from "../src/exact/equality.suite.ts";
import { giveModel } from "../src/exact/random-model.suite.ts";
import { createWasmExecutor } from "../src/exact/wasm/executor.ts";

const { values } = parseArgs({ options: { quick: { type: "boolean" }, seed: { type: "string" } } });
const seed = Number(values.seed ?? 1);
const tokensMin = values.quick ? 10_000 : 100_000;

const startMs = performance.now();
const result = await compareModels(seed, tokensMin, async (model, options) => {
  const making = createWasmExecutor(model.shape, { ...options, range: model.range });
  await giveModel(model, making.sink);
  return making.executor();
});
const seconds = (performance.now() - startMs) / 1000;

const { models, tokens, leaves, outputs, differingBits } = result;
const table = new Table({ head: ["models", "tokens", "leaves", "outputs", "differing bits", "seconds"] });
table.push([models, tokens, leaves, outputs, differingBits, seconds.toFixed(1)]);
console.log(table.toString());
if (differingBits > 0) {
  console.error(`The first difference is in the model of seed ${result.seed}.`);
  process.exitCode = 1;
}
console.log(JSON.stringify({ seed, models, tokens, leaves, outputs, differingBits }));
