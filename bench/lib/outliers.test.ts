import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import type { ModelSource } from "../../src/formats/model-source.ts";
import { loadEvalRows } from "./eval-text.ts";
import { inTemporaryFolder, noAbort, plainTokens, writeRandom } from "./fixture.suite.ts";
import { type ActivationPoint, openFloatParent } from "./float-parent.ts";
import { demoModel } from "./gguf-writer.ts";
import { missingLlama, startLlama } from "./llama-logits.ts";
import { withMassiveToken } from "./massive-token.ts";
import { openModelFile, writeChangedModel } from "./model-file.ts";
import { withScaledOutliers } from "./outliers.ts";
import { createRandomModel, microSpec } from "./random-model.ts";

const tokens = plainTokens(12);

/** Logits, and the largest activation at a point. */
async function run(source: ModelSource, at: ActivationPoint): Promise<[Float64Array, number]> {
  let largest = 0;
  const logits = (await openFloatParent(source, noAbort)).logits(tokens, ({ point, values }) => {
    if (point === at) for (const x of values) largest = Math.max(largest, Math.abs(x));
  });
  return [logits, largest];
}

for (const family of ["llama3", "qwen2", "qwen3"] as const) {
  test(`${family}: scaled outliers are large and change no logit`, async () => {
    const model = createRandomModel(microSpec(family));
    for (const [kind, point, times] of [
      ["H", "ffnHidden", 20],
      ["K", "k", 3],
      ["V", "v", 5],
    ] as const) {
      const [expected, before] = await run(model, point);
      const [logits, after] = await run(withScaledOutliers(model, [kind]), point);
      assert.deepEqual(logits, expected, kind);
      assert.ok(after > times * before, `${kind}: ${after} after ${before}`);
    }
  });
}

test("a changed model is written with all that the original says", () =>
  inTemporaryFolder(async (folder) => {
    const [original, changed] = [join(folder, "original.gguf"), join(folder, "changed.gguf")];
    const model = await writeRandom(original, microSpec("llama3"));
    const source = withScaledOutliers(await openModelFile(original), ["H", "K", "V"]);
    await writeChangedModel(changed, original, source, "F32");
    const read = await openModelFile(changed);
    const { ropeFrequencies } = (await openModelFile(original)).shape;
    assert.deepEqual(read.shape, { ...model.shape, ropeFrequencies });
    const logits = (await openFloatParent(read, noAbort)).logits(tokens);
    const unchanged = (await openFloatParent(await openModelFile(original), noAbort)).logits(tokens);
    assert.deepEqual(logits, unchanged);
  }));

test(
  "a massive token is massive where it stands and nowhere else",
  { skip: missingLlama() ?? false },
  async () => {
    const llama = await startLlama();
    try {
      const model = await llama.load(demoModel, { contextTokens: 64 });
      const tokenize = (text: string): Promise<number[]> => model.tokenize(text);
      const rows = await loadEvalRows(tokenize, { questionsPerRow: 1, answersOnly: false, rowsMax: 8 });
      const [tokenId] = await tokenize("<|im_start|>");
      const samples = rows.map(({ tokenIds }) => tokenIds);
      const source = await withMassiveToken(
        await openModelFile(demoModel),
        { tokenId: tokenId!, samples },
        noAbort,
      );
      (await openFloatParent(source, noAbort)).logits(samples[0]!, ({ point, layer, position, values }) => {
        if (point !== "residual" || layer < 1 || layer > 3) return;
        const [low, high] = [Math.min(...values), Math.max(...values)];
        if (samples[0]![position] === tokenId) assert.ok(high > 2000 && low < -900, `${low} ${high}`);
        else assert.ok(high < 300 && low > -300, `${low} ${high} at ${position}`);
      });
    } finally {
      llama.close();
    }
  },
);
