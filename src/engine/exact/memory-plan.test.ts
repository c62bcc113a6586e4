import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ExactShape } from "../../exact/model/model.ts";
import { SkeinError } from "../../util/errors.ts";
import { cacheBytesPerToken, planMemory, weightBytes } from "./memory-plan.ts";

/** Like Qwen 2.5 1.5B. */
const shape: ExactShape = {
  layers: 28,
  dim: 1536,
  heads: 12,
  headsKv: 2,
  headDim: 128,
  ffnDim: 8960,
  vocabularySize: 151_936,
  contextTokensMax: 32_768,
  normEpsilon: 0,
  headNormEpsilon: 0,
  turns: Array.from({ length: 64 }, () => 0),
  hasTiedEmbeddings: true,
  hasQkvBias: true,
  hasQkNorm: false,
};
const giga = 2 ** 30;
const unasked = { parallel: null, contextTokens: null };

test("requests share a gigabyte, as many as find a useful share of it", () => {
  const plan = planMemory(shape, "int8-row", unasked, 64 * giga);
  assert.equal(plan.parallelMax, 16);
  assert.equal(plan.contextTokensMax, shape.contextTokensMax);
  const { cacheTokensMax } = plan;
  assert.ok(
    Math.abs(cacheTokensMax * cacheBytesPerToken(shape) - giga) < 0.01 * giga,
    String(cacheTokensMax),
  );
  const small = planMemory(shape, "int8-row", unasked, 2.25 * giga);
  assert.ok(
    small.parallelMax < 16 && small.cacheTokensMax >= 1_024 * small.parallelMax,
    JSON.stringify(small),
  );
  const own = planMemory({ ...shape, contextTokensMax: 500 }, "int8-row", unasked, 64 * giga);
  assert.deepEqual(own, { parallelMax: 16, contextTokensMax: 500, cacheTokensMax: 16 * 512 });
});

test("a wish is granted as it is, or refused", () => {
  const planFor = (parallel: number | null, contextTokens: number | null) =>
    planMemory(shape, "int8-row", { parallel, contextTokens }, 64 * giga);
  const whole = { parallelMax: 2, contextTokensMax: 32_768, cacheTokensMax: 65_536 };
  assert.deepEqual(planFor(2, 32_768), whole);
  assert.deepEqual(planFor(2, 1e9), whole);
  assert.equal(planFor(null, 32_768).contextTokensMax, 32_768);
  assert.equal(planFor(32, null).parallelMax, 32);
  // Not everybody at once can have all of it; each alone can.
  const shared = planFor(16, 32_768);
  assert.deepEqual([shared.parallelMax, shared.contextTokensMax], [16, 32_768]);
  assert.ok(shared.cacheTokensMax < 4 * 32_768 && shared.cacheTokensMax > 2 * 32_768, JSON.stringify(shared));
  const refused = (error: unknown): boolean =>
    error instanceof SkeinError && error.code === "engine_unavailable" && /MiB/.test(error.message);
  assert.throws(() => planFor(1_000, 32_768), refused);
  assert.throws(
    () => planMemory(shape, "int8-row", { parallel: 1, contextTokens: 32_768 }, 3 * giga),
    refused,
  );
  assert.throws(() => planMemory(shape, "int8-row", unasked, giga), refused);
  assert.throws(() => planMemory({ ...shape, layers: 280 }, "int8-row", unasked, 640 * giga), refused);
});

test("logits of several rows at a time count", () => {
  const wide = { ...shape, layers: 1, dim: 16, ffnDim: 16, heads: 1, headsKv: 1, vocabularySize: 2 ** 20 };
  const logitBytes = 16 * 4 * wide.vocabularySize;
  const wish = { parallel: 1, contextTokens: 16 };
  const room = weightBytes(wide, "int8-row") + logitBytes;
  assert.throws(() => planMemory(wide, "int8-row", wish, room / 0.75), /MiB/);
  planMemory(wide, "int8-row", wish, (room + 2 ** 26) / 0.75);
});

test("whatever is planned fits", () => {
  const wish = fc.option(fc.integer({ min: 1, max: 70_000 }));
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      wish,
      wish,
      fc.double({ min: 1, max: 16, noNaN: true }),
      (layers, parallel, contextTokens, gigas) => {
        const model = { ...shape, layers };
        try {
          const plan = planMemory(model, "int8-row", { parallel, contextTokens }, gigas * giga);
          const cache = plan.cacheTokensMax * cacheBytesPerToken(model);
          assert.ok(weightBytes(model, "int8-row") + cache < Math.min(4, gigas) * giga);
          assert.ok(plan.parallelMax >= 1 && plan.contextTokensMax >= 1);
          assert.ok(plan.contextTokensMax <= plan.cacheTokensMax);
        } catch (error) {
          assert.ok(error instanceof SkeinError && error.code === "engine_unavailable", String(error));
        }
      },
    ),
  );
});
