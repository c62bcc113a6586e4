import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { difference, inTemporaryFolder, noAbort, plainTokens, writeRandom } from "./fixture.suite.ts";
import { openFloatParent } from "./float-parent.ts";
import { missingLlama, startLlama } from "./llama-logits.ts";
import { createRandomModel, microSpec, randomFamilies } from "./random-model.ts";

const tokens = plainTokens(80);
const contextTokens = 256;

test("every family's logits are llama.cpp's", { skip: missingLlama() ?? false }, () =>
  inTemporaryFolder(async (folder) => {
    const llama = await startLlama();
    try {
      for (const family of randomFamilies) {
        const path = join(folder, `${family}.gguf`);
        const model = await writeRandom(path, microSpec(family, { contextTokensMax: contextTokens }));
        const theirs = await (await llama.load(path, { contextTokens })).logits(tokens);
        const ours = (await openFloatParent(model, noAbort)).logits(tokens);
        assert.equal(theirs.length, ours.length);
        const { largest, spread } = difference(ours, theirs);
        assert.ok(largest < 2e-4 * spread, `${family}: they differ by ${largest} of ${spread}`);
      }
    } finally {
      llama.close();
    }
  }),
);

test("activations are seen once per layer and position, and are what the next step uses", async () => {
  const model = createRandomModel(microSpec("qwen3"));
  const parent = await openFloatParent(model, noAbort);
  const seen = new Map<string, number>();
  let lastInput = new Float64Array();
  const logits = parent.logits(plainTokens(5), ({ point, position, values }) => {
    seen.set(point, (seen.get(point) ?? 0) + 1);
    if (point === "outputInput" && position === 4) lastInput = values.slice();
  });
  const perLayer = 5 * model.shape.layers;
  assert.deepEqual(Object.fromEntries(seen), {
    attnInput: perLayer,
    q: perLayer,
    k: perLayer,
    v: perLayer,
    attnMix: perLayer,
    ffnInput: perLayer,
    ffnHidden: perLayer,
    residual: perLayer,
    outputInput: 5,
  });
  const row = await model.readRows({ kind: "output" }, 1000, 1, noAbort);
  const expected = row.reduce((sum, weight, i) => sum + weight * lastInput[i]!, 0);
  assert.ok(Math.abs(logits[4 * model.shape.vocabularySize + 1000]! - expected) < 1e-9);
});
