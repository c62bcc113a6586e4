import assert from "node:assert/strict";
import { test } from "node:test";
import { memorySource } from "../../formats/byte-source.ts";
import { SkeinError } from "../../util/errors.ts";
import { type ContainerHeader, readHeader } from "../container/container.ts";
import { containerOf, sha256, smallTokenizer, tensorBytesOf } from "../container/fixture.suite.ts";
import type { Executor } from "../executor.ts";
import type { ExactModel, Quantization } from "../model/model.ts";
import { isNorm, tensorsOf } from "../model/sink.ts";
import { tensorExtent } from "../model/weight-bytes.ts";
import { diceOfSeed, giveModel, randomModel, randomShapeFor } from "../random-model.suite.ts";
import { createWasmExecutor } from "./executor.ts";
import { loadWasmExecutor } from "./load.ts";

const never = new AbortController().signal;

async function modelOf(quantization: Quantization, seed: number) {
  const dice = diceOfSeed(seed);
  // Pieces end within rows, groups and scales; the embedding and the output have several.
  const widths = { layers: 1, dim: 288, ffnDim: 1_056, vocabularySize: 1_021, contextTokensMax: 24 };
  const shape = randomShapeFor(quantization, dice, {
    ...widths,
    heads: 2,
    headsKv: 1,
    headDim: 32,
    hasTiedEmbeddings: false,
    hasQkvBias: true,
    hasQkNorm: true,
  });
  const model = await randomModel(dice, shape, "wild", quantization);
  const given = { quantization, shape, name: "", tokenizer: smallTokenizer("gpt2", 8), chatTemplate: null };
  const tensors = await tensorBytesOf(model);
  const fileOf = (changed: readonly Uint8Array[]): Uint8Array => containerOf({ ...given, tensors: changed });
  return { model, tensors, fileOf };
}

const load = (file: Uint8Array, header: ContainerHeader, range = header.manifest.shape.layers) =>
  loadWasmExecutor(memorySource("small.skein", file), header, sha256, {
    executor: { range: { start: 0, end: range } },
    signal: never,
  });

const headerOf = (file: Uint8Array) => readHeader(memorySource("small.skein", file), sha256, never);

function answersOf(executor: Executor): (Int32Array | null)[] {
  const sequence = executor.newSequence();
  return [3, 1_020, 517].flatMap((input) => executor.step([{ sequence, input, wantsLogits: true }]));
}

async function placed(model: ExactModel): Promise<Executor> {
  const making = createWasmExecutor(model.shape);
  await giveModel(model, making.sink);
  return making.executor();
}

function fails(loading: Promise<unknown>, message: RegExp): Promise<void> {
  return assert.rejects(loading, (error: unknown) => {
    assert.ok(error instanceof SkeinError && error.code === "invalid_model_file", String(error));
    assert.match(error.message, message);
    return true;
  });
}

for (const quantization of ["int8-row", "int4-group32"] as const) {
  test(`${quantization}: what was loaded from a file computes as what was placed tensor by tensor`, async () => {
    const { model, tensors, fileOf } = await modelOf(quantization, 5);
    const file = fileOf(tensors);
    const expected = answersOf(await placed(model));
    assert.deepEqual(answersOf(await load(file, await headerOf(file))), expected);
  });

  test(`${quantization}: a flipped bit in any tensor is found, and said where`, async () => {
    const { tensors, fileOf } = await modelOf(quantization, 6);
    const file = fileOf(tensors);
    const header = await headerOf(file);
    for (const [i, tensor] of tensorsOf(header.manifest.shape).entries()) {
      for (const at of [i % 40, tensors[i]!.length - 1]) {
        const damaged = file.slice();
        damaged[header.offsets[i]! + at]! ^= 1 << (i % 8);
        await fails(load(damaged, header), new RegExp(`damaged: ${tensor.kind}`));
      }
    }
  });

  test(`${quantization}: numbers that no conversion makes are refused, wherever they stand`, async () => {
    const { model, tensors, fileOf } = await modelOf(quantization, 7);
    const refuses = async (index: number, at: number, bytes: readonly number[]): Promise<void> => {
      const changed = tensors[index]!.slice();
      changed.set(bytes, at);
      const file = fileOf(tensors.with(index, changed));
      await fails(load(file, await headerOf(file)), /holds numbers that no conversion makes/);
    };
    for (const [i, { kind }] of tensorsOf(model.shape).entries()) {
      const { rows, columns, hasBias, format } = tensorExtent(model.shape, quantization, kind);
      if (isNorm(kind)) {
        await refuses(i, 4 * (columns - 1), [0, 0, 0x80, 0]);
        continue;
      }
      const isGrouped = format === "int4-group32";
      const weights = isGrouped ? (rows * columns) / 2 : rows * columns;
      const numbers = isGrouped ? weights + (rows * columns) / 32 : weights;
      for (const at of [isGrouped ? weights : 0, numbers - 1]) await refuses(i, at, [0x80]);
      await refuses(i, numbers + 2 * (rows - 1), [0xff, 0x0f]);
      if (hasBias) await refuses(i, tensors[i]!.length - 4, [0, 0, 0, 0x04]);
    }
  });
}

test("a load that is cancelled ends", async () => {
  const { tensors, fileOf } = await modelOf("int8-row", 8);
  const file = fileOf(tensors);
  const loading = loadWasmExecutor(memorySource("", file), await headerOf(file), sha256, {
    executor: {},
    signal: AbortSignal.abort(),
  });
  await assert.rejects(loading, (error) => error instanceof SkeinError && error.code === "cancelled");
});
