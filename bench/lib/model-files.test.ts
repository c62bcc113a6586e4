import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type ByteSource, memorySource } from "../../src/formats/byte-source.ts";
import { extentOf, type ModelSource } from "../../src/formats/model-source.ts";
import { openSafetensorsModel } from "../../src/formats/safetensors/source.ts";
import { inTemporaryFolder, noAbort, writeRandom } from "./fixture.suite.ts";
import { openModelFile } from "./model-file.ts";
import { createRandomModel, microSpec, randomFamilies } from "./random-model.ts";
import { writeSafetensors } from "./safetensors-writer.ts";
import { tensorsOf } from "./tensors.ts";
import { weightFormats, type WeightType } from "./weight-types.ts";

async function assertSameModel(read: ModelSource, model: ModelSource): Promise<void> {
  const { ropeFrequencies, ...shape } = model.shape;
  const { ropeFrequencies: frequenciesRead, ...shapeRead } = read.shape;
  assert.deepEqual(shapeRead, shape);
  assert.equal(frequenciesRead.length, ropeFrequencies.length);
  // GGUF stores factors of frequencies in single precision.
  ropeFrequencies.forEach((frequency, i) =>
    assert.ok(Math.abs(frequenciesRead[i]! / frequency - 1) < 1e-6, `frequency ${i}`),
  );
  assert.equal(read.parameters, model.parameters);
  for (const tensor of tensorsOf(model.shape)) {
    const { rows } = extentOf(model.shape, tensor.kind);
    const expected = await model.readRows(tensor, 0, rows, noAbort);
    const found = await read.readRows(tensor, 0, rows, noAbort);
    // Not `deepEqual`: to describe how long arrays differ takes all memory there is.
    assert.equal(found.length, expected.length, tensor.kind);
    assert.equal(
      found.findIndex((value, i) => !Object.is(value, expected[i])),
      -1,
      tensor.kind,
    );
  }
}

for (const type of Object.keys(weightFormats) as WeightType[]) {
  test(`a GGUF file of ${type} holds the model's own shape and rows`, () =>
    inTemporaryFolder(async (folder) => {
      for (const family of randomFamilies) {
        const path = join(folder, `${family}.gguf`);
        const model = await writeRandom(path, microSpec(family, { type }));
        // GGUF knows Mistral only as a Llama.
        const { architecture } = model.shape;
        const shape = { ...model.shape, architecture: architecture === "mistral" ? "llama" : architecture };
        await assertSameModel(await openModelFile(path), { ...model, shape });
      }
    }));
}

for (const type of ["F32", "F16", "BF16"] as const) {
  test(`safetensors of ${type} hold the model's own shape and rows`, () =>
    inTemporaryFolder(async (folder) => {
      for (const family of randomFamilies) {
        const model = createRandomModel(microSpec(family, { type }));
        await writeSafetensors(join(folder, family), model, type, model.spec.rope);
        const open = async (name: string): Promise<ByteSource> =>
          memorySource(name, await readFile(join(folder, family, name)));
        const files = { config: await open("config.json"), shards: [await open("model.safetensors")] };
        await assertSameModel(await openSafetensorsModel(files, noAbort), model);
      }
    }));
}
