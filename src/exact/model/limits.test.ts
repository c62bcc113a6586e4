import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../../util/errors.ts";
import { diceOfSeed, randomShape } from "../random-model.suite.ts";
import { checkShape } from "./limits.ts";
import type { ExactShape } from "./model.ts";

const shape: ExactShape = randomShape(diceOfSeed(1), { headDim: 16, heads: 4, headsKv: 2, dim: 48 });

function isSupported(change: Partial<ExactShape>): boolean {
  try {
    checkShape({ ...shape, ...change });
    return true;
  } catch (error) {
    assert.ok(error instanceof SkeinError && error.code === "unsupported_model", String(error));
    return false;
  }
}

/** The smallest and the largest number that each field may hold, and the distance of its numbers. */
const limits: readonly (readonly [keyof ExactShape, number, number, number])[] = [
  ["layers", 1, 1_024, 1],
  ["dim", 16, 16_384, 16],
  ["ffnDim", 16, 65_536, 16],
  ["heads", 2, 4_096, 2],
  ["vocabularySize", 1, 2 ** 20, 1],
  ["contextTokensMax", 1, 65_536, 1],
  ["normEpsilon", 0, 2 ** 45, 1],
  ["headNormEpsilon", 0, 2 ** 45, 1],
];

test("shapes within the limits of the arithmetic are supported, and none beyond", () => {
  assert.ok(isSupported({}));
  for (const [field, min, max, step] of limits) {
    for (const good of [min, max, max - step]) assert.ok(isSupported({ [field]: good }), `${field} ${good}`);
    for (const bad of [
      min - step,
      max + step,
      min + 0.5,
      -1,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      2 ** 53,
    ]) {
      assert.ok(!isSupported({ [field]: bad }), `${field} ${bad}`);
    }
  }
});

test("heads of up to 256 channels, each pair with an angle of half a turn at most", () => {
  const turnsOf = (headDim: number): number[] => Array.from({ length: headDim / 2 }, () => 1);
  for (const headDim of [16, 80, 256]) assert.ok(isSupported({ headDim, turns: turnsOf(headDim) }));
  for (const headDim of [0, 8, 24, 272]) assert.ok(!isSupported({ headDim, turns: turnsOf(headDim) }));
  assert.ok(!isSupported({ turns: turnsOf(32) }));
  assert.ok(isSupported({ turns: turnsOf(16).with(7, 2 ** 47) }));
  for (const turn of [-1, 2 ** 47 + 1, 0.5, Number.NaN]) {
    assert.ok(!isSupported({ turns: turnsOf(16).with(7, turn) }), `${turn}`);
  }
  assert.ok(!isSupported({ heads: 5 }));
  assert.ok(!isSupported({ headsKv: 8 }));
});
