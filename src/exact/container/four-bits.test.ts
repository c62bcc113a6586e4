import assert from "node:assert/strict";
import { test } from "node:test";
import { memorySource } from "../../formats/byte-source.ts";
import { SkeinError } from "../../util/errors.ts";
import { collectModel } from "../model/sink.ts";
import { tensorExtent } from "../model/weight-bytes.ts";
import { diceOfSeed, randomModel, randomShapeFor } from "../random-model.suite.ts";
import { openContainer, readContainer } from "./container.ts";
import { containerOf, type ContainerParts, sha256, smallTokenizer, tensorBytesOf } from "./fixture.suite.ts";

const signal = new AbortController().signal;
const quantization = "int4-group32";
const dice = diceOfSeed(5);
const shape = randomShapeFor(quantization, dice, { layers: 1, vocabularySize: 9, hasQkvBias: true });
const model = await randomModel(dice, shape, "wild", quantization);
const parts: ContainerParts = {
  quantization,
  shape,
  name: "small",
  tokenizer: smallTokenizer("gpt2", 8),
  chatTemplate: null,
  tensors: await tensorBytesOf(model),
};

async function read(file: Uint8Array) {
  const source = memorySource("small.skein", file);
  const info = await openContainer(source, sha256, signal);
  const collected = collectModel(info.manifest.shape);
  await readContainer(source, info, sha256, collected, { signal });
  return { info, model: collected.model() };
}

const refused = (code: string) => (error: unknown) => error instanceof SkeinError && error.code === code;

test("what is written is read, and the manifest says how it is rounded", async () => {
  const { info, model: again } = await read(containerOf(parts));
  assert.equal(info.manifest.quantization, quantization);
  assert.deepEqual(await tensorBytesOf(again), parts.tensors);
  assert.equal(again.embedding!.format, "int8-row");
  assert.equal(again.layers[0]!.q.format, quantization);
});

test("scales and multipliers that no conversion makes are refused", async () => {
  // Behind embedding and norm: q.
  const { rows, columns, bytes } = tensorExtent(shape, quantization, "q");
  const q = parts.tensors[2]!;
  assert.equal(q.length, bytes);
  const scalesAt = (rows * columns) / 2;
  const multipliersAt = scalesAt + (rows * columns) / 32;
  // Any weight is one.
  await read(containerOf({ ...parts, tensors: parts.tensors.with(2, q.with(0, 0x88)) }));
  for (const [at, byte] of [
    [scalesAt, 0x80],
    [multipliersAt + 1, 0x0f],
    [multipliersAt + 1, 0x20],
    [multipliersAt + 1, 0x80],
  ] as const) {
    const file = containerOf({ ...parts, tensors: parts.tensors.with(2, q.with(at, byte)) });
    await assert.rejects(read(file), refused("invalid_model_file"));
  }
});

test("rows that are not whole groups are refused before anything is read", async () => {
  for (const width of ["dim", "ffnDim"] as const) {
    const odd = containerOf({ ...parts, shape: { ...shape, [width]: shape[width] + 16 } });
    await assert.rejects(read(odd), refused("unsupported_model"));
  }
});
