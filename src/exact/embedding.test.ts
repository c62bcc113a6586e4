import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { embeddingFraction, embeddingOf } from "./embedding.ts";
import type { NormWeights } from "./model/model.ts";
import { normToBlock } from "./ops/operations.ts";
import { diceOfSeed, giveModel, randomModel, randomShape } from "./random-model.suite.ts";
import { createReferenceExecutor } from "./reference/executor.ts";
import { createWasmExecutor } from "./wasm/executor.ts";

const shape = { normEpsilon: 0 };

function normOf(dim: number): NormWeights {
  return { mantissas: new Int32Array(dim).fill(2 ** 20), exponent: -20 };
}

/** The definition in whole numbers of any size: halves upwards. */
function component(mantissa: bigint, squares: bigint): bigint {
  let lift = 0n;
  while (squares << (2n * (lift + 1n)) < 1n << 52n) lift += 1n;
  const lifted = squares << (2n * lift);
  let root = BigInt(Math.floor(Math.sqrt(Number(lifted))));
  while (root * root > lifted) root -= 1n;
  while ((root + 1n) * (root + 1n) <= lifted) root += 1n;
  const dividend = 2n * (mantissa << (lift + BigInt(embeddingFraction))) + root;
  const quotient = dividend / (2n * root);
  return dividend % (2n * root) < 0n ? quotient - 1n : quotient;
}

test("components are the definition's, have length 1 and are 32-bit floats", () => {
  const value = fc.oneof(
    fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 }),
    fc.integer({ min: -9, max: 9 }),
  );
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 64 }), (values) => {
      const residual = Int32Array.from(values);
      const { mantissas } = normToBlock(residual, normOf(values.length), 0);
      const squares = mantissas.reduce((sum, mantissa) => sum + BigInt(mantissa * mantissa), 0n);
      const found = embeddingOf(residual, normOf(values.length), shape);
      if (squares === 0n) return assert.ok(found.every((one) => one === 0));
      assert.deepEqual(
        [...found],
        Array.from(mantissas, (mantissa) => Number(component(BigInt(mantissa), squares))),
      );
      const floats = Array.from(found, (one) => one / 2 ** embeddingFraction);
      assert.ok(floats.every((one) => Math.fround(one) === one));
      assert.ok(Math.abs(Math.hypot(...floats) - 1) < 1e-5);
    }),
  );
});

test("both executors tell the same weights of the output norm", async () => {
  const dice = diceOfSeed(7);
  const model = await randomModel(dice, randomShape(dice), "calm");
  const making = createWasmExecutor(model.shape);
  await giveModel(model, making.sink);
  assert.deepEqual(making.executor().outputNorm(), createReferenceExecutor(model).outputNorm());
});
