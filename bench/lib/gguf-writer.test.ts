import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { openFileSource } from "../../src/engine/file-source.ts";
import { openGgufModel } from "../../src/formats/gguf/source.ts";
import { extentOf } from "../../src/formats/model-source.ts";
import { inTemporaryFolder, noAbort, writeRandom } from "./fixture.suite.ts";
import { microSpec, randomFamilies } from "./random-model.ts";
import { tensorsOf } from "./tensors.ts";
import { weightFormats, type WeightType } from "./weight-types.ts";

for (const type of Object.keys(weightFormats) as WeightType[]) {
  test(`${type}: a file holds the model's own shape and rows`, () =>
    inTemporaryFolder(async (folder) => {
      for (const family of randomFamilies) {
        const path = join(folder, `${family}.gguf`);
        const model = await writeRandom(path, microSpec(family, { type }));
        const source = await openFileSource(path);
        try {
          const read = await openGgufModel([source], noAbort);
          const { ropeFrequencies, ...shape } = model.shape;
          const { ropeFrequencies: frequenciesRead, ...shapeRead } = read.shape;
          // Mistral is an architecture of its own only outside GGUF.
          assert.deepEqual(shapeRead, { ...shape, architecture: shapeRead.architecture });
          // Factors of frequencies are stored in single precision.
          ropeFrequencies.forEach((frequency, i) =>
            assert.ok(Math.abs(frequenciesRead[i]! / frequency - 1) < 1e-6, `${family}: frequency ${i}`),
          );
          assert.equal(read.parameters, model.parameters);
          for (const tensor of tensorsOf(model.shape)) {
            const { rows } = extentOf(model.shape, tensor.kind);
            const expected = await model.readRows(tensor, 0, rows, noAbort);
            assert.deepEqual(await read.readRows(tensor, 0, rows, noAbort), expected, tensor.kind);
          }
        } finally {
          await source.close();
        }
      }
    }));
}
