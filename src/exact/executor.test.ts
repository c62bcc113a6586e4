import { describeExecutor } from "./executor.suite.ts";
import { giveModel } from "./random-model.suite.ts";
import { createReferenceExecutor } from "./reference/executor.ts";
import { createWasmExecutor } from "./wasm/executor.ts";

describeExecutor("reference", async (model) => createReferenceExecutor(model), {
  tokensMin: 200,
  rare: false,
});

describeExecutor(
  "wasm",
  async (model, options) => {
    const making = createWasmExecutor(model.shape, { ...options, range: model.range });
    await giveModel(model, making.sink);
    return making.executor();
  },
  { tokensMin: 10_000, rare: true },
);
