/** Logits of the exact engine for given tokens, as the other engines of a benchmark give them. */
import { convertModel } from "../../src/exact/import/convert.ts";
import { exactShapeOf } from "../../src/exact/import/shape.ts";
import { logitFraction, type Quantization } from "../../src/exact/model/model.ts";
import { createWasmExecutor } from "../../src/exact/wasm/executor.ts";
import type { ModelSource } from "../../src/formats/model-source.ts";

/** Converts a model; the function returned gives positions × vocabulary logits in nats. */
export async function openExact(
  source: ModelSource,
  quantization: Quantization = "int8-row",
): Promise<(tokenIds: readonly number[]) => Promise<Float32Array>> {
  const shape = exactShapeOf(source.shape);
  const loading = createWasmExecutor(shape);
  await convertModel(source, shape, loading.sink, { signal: new AbortController().signal, quantization });
  const executor = loading.executor();
  return async (tokenIds) => {
    const sequence = executor.newSequence();
    const logits = new Float32Array(tokenIds.length * shape.vocabularySize);
    for (let at = 0; at < tokenIds.length; at += executor.rowsMax) {
      const rows = tokenIds.slice(at, at + executor.rowsMax);
      const outputs = executor.step(rows.map((input) => ({ sequence, input, wantsLogits: true })));
      for (const [i, output] of outputs.entries()) {
        logits.set(
          Float32Array.from(output!, (value) => value / 2 ** logitFraction),
          (at + i) * shape.vocabularySize,
        );
      }
    }
    sequence.free();
    return logits;
  };
}
