/** The one suite that every executor passes: bit by bit what the reference says, however rows are put into steps. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { systemRandom } from "../util/random.ts";
import { compareModel, compareModels, type MakeExecutor, rareShapes } from "./equality.suite.ts";
import type { Executor } from "./executor.ts";
import type { ExactModel, Quantization } from "./model/model.ts";
import { diceOfSeed, randomModel, randomResidual, randomShape, sliceModel } from "./random-model.suite.ts";
import { createReferenceExecutor } from "./reference/executor.ts";
import { differingBits, truthOf } from "./replay.suite.ts";

export interface SuiteOptions {
  /** Positions of random models to compare. */
  readonly tokensMin: number;
  /** Whether shapes are tried that take the reference long. */
  readonly rare: boolean;
}

const quantizations: readonly Quantization[] = ["int8-row", "int4-group32"];

export function describeExecutor(name: string, make: MakeExecutor, options: SuiteOptions): void {
  describe(`executor ${name}`, () => {
    for (const quantization of quantizations) describeEquality(quantization, make, options);
    describeContract(make);
  });
}

function describeEquality(quantization: Quantization, make: MakeExecutor, options: SuiteOptions): void {
  test(`tells what the reference tells, in any steps, stages and company (${quantization})`, async () => {
    // Other models each time; what fails can be repeated with the seed in the message.
    const first = Math.floor(systemRandom.next() * 2 ** 31);
    const { differingBits: differing, seed } = await compareModels(
      first,
      options.tokensMin,
      make,
      quantization,
    );
    assert.equal(differing, 0, `compareModel(${seed}) finds ${differing} differing bits`);
  });

  for (const given of options.rare ? rareShapes : []) {
    test(`tells what the reference tells with ${JSON.stringify(given)} (${quantization})`, async () => {
      for (const [i, temper] of (["calm", "wild", "aligned", "wild", "aligned"] as const).entries()) {
        const { differingBits: differing } = await compareModel(i, make, given, temper, quantization);
        assert.equal(differing, 0, `${temper} model of seed ${i}`);
      }
    });
  }
}

function describeContract(make: MakeExecutor): void {
  const shape = randomShape(diceOfSeed(1), { layers: 2, vocabularySize: 5, contextTokensMax: 6, dim: 16 });
  const model = (): Promise<ExactModel> => randomModel(diceOfSeed(2), shape, "calm");

  test("a sequence is cut at whole numbers, and runs only where and while it is known", async () => {
    const [executor, other] = [await make(await model(), {}), await make(await model(), {})];
    const sequence = executor.newSequence();
    const row = { sequence, input: 1, wantsLogits: false };
    for (const length of [-1, 0.5, Number.NaN]) assert.throws(() => sequence.truncate(length), SkeinError);
    assert.throws(() => other.step([row]), /another executor/);
    sequence.free();
    assert.throws(() => executor.step([row]), /given back/);
  });

  test("refuses steps it cannot run, and forgets nothing by them", async () => {
    const executor = await make(await model(), { rowsMax: 4 });
    const sequence = executor.newSequence();
    const row = (input: number | Int32Array) => ({ sequence, input, wantsLogits: true });
    executor.step([row(1), row(2)]);
    const refused = (code: string, ...inputs: (number | Int32Array)[]): void => {
      assert.throws(
        () => executor.step(inputs.map(row)),
        (error) => error instanceof SkeinError && error.code === code,
      );
    };
    for (const token of [-1, 5, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32]) {
      refused("invalid_request", token);
      // Nor is the good row before it run.
      refused("invalid_request", 3, token);
    }
    refused("invalid_request", new Int32Array(16));
    refused("invalid_request");
    refused("invalid_request", ...Array.from({ length: executor.rowsMax + 1 }, () => 0));
    assert.equal(sequence.length, 2);
    executor.step([row(3), row(4)]);
    refused("context_length_exceeded", 0, 0, 0);
    assert.equal(sequence.length, 4);
    assertSame(await model(), executor, [1, 2, 3, 4], executor.step([row(0)])[0]!, 0);
  });

  test("a later stage takes residual vectors of its width and range only", async () => {
    const executor = await make(await sliceModel(await model(), { start: 1, end: 2 }), {});
    const sequence = executor.newSequence();
    for (const input of [0, new Int32Array(15), new Int32Array(17), new Int32Array(16).fill(-(2 ** 31))]) {
      assert.throws(() => executor.step([{ sequence, input, wantsLogits: true }]), SkeinError);
    }
    assert.equal(sequence.length, 0);
  });

  test("sequences may be cut anywhere, given back twice and begun anew", async () => {
    const executor = await make(await model(), {});
    const first = executor.newSequence();
    executor.step([4, 4, 4].map((input) => ({ sequence: first, input, wantsLogits: false })));
    first.truncate(9);
    assert.equal(first.length, 3);
    first.truncate(0);
    assert.equal(first.length, 0);
    first.free();
    first.free();
    // Memory that was given back twice must not be lent twice.
    const [second, third] = [executor.newSequence(), executor.newSequence()];
    executor.step([0, 1, 2].map((input) => ({ sequence: second, input, wantsLogits: false })));
    executor.step([3, 3, 3].map((input) => ({ sequence: third, input, wantsLogits: false })));
    const [output] = executor.step([{ sequence: second, input: 4, wantsLogits: true }]);
    assertSame(await model(), executor, [0, 1, 2], output!, 4);
  });

  test("forks begin alike and go on apart, whatever becomes of the other", async () => {
    const executor = await make(await model(), {});
    const first = executor.newSequence();
    executor.step([4, 3, 2].map((input) => ({ sequence: first, input, wantsLogits: false })));
    for (const length of [4, -1, 0.5]) assert.throws(() => first.fork(length), SkeinError);
    const [second, third] = [first.fork(2), first.fork(3)];
    assert.deepEqual([second.length, third.length, first.fork(0).length], [2, 3, 0]);
    executor.step([second, first, third].map((sequence) => ({ sequence, input: 1, wantsLogits: false })));
    first.free();
    assert.throws(() => first.fork(0), SkeinError);
    for (const [sequence, before] of [
      [second, [4, 3, 1]],
      [third, [4, 3, 2, 1]],
    ] as const) {
      const [output] = executor.step([{ sequence, input: 0, wantsLogits: true }]);
      assertSame(await model(), executor, before, output!, 0);
    }
  });

  test("leaves its inputs as they are, and its outputs to the caller", async () => {
    const executor = await make(await sliceModel(await model(), { start: 1, end: 2 }), {});
    const input = randomResidual(diceOfSeed(3), shape.dim);
    const before = input.slice();
    const sequence = executor.newSequence();
    const [output] = executor.step([{ sequence, input, wantsLogits: true }]);
    const kept = output!.slice();
    executor.step([{ sequence, input, wantsLogits: true }]);
    assert.deepEqual(input, before);
    assert.deepEqual(output, kept);
  });
}

/** Whether `output` is what follows `token` after `before`. */
function assertSame(
  model: ExactModel,
  executor: Executor,
  before: readonly number[],
  output: Int32Array,
  token: number,
): void {
  assert.equal(executor.shape, model.shape);
  const { outputs } = truthOf(createReferenceExecutor(model), [[...before, token]]);
  const [expected, actual] = [outputs[0]!.at(-1)!, output].map((values) => new Uint8Array(values.buffer));
  assert.equal(differingBits(expected!, actual!), 0);
}
