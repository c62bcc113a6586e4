import assert from "node:assert/strict";
import { test } from "node:test";
import { extentOf } from "../../src/formats/model-source.ts";
import { noAbort } from "./fixture.suite.ts";
import { createRandomModel, microSpec } from "./random-model.ts";

test("rows are the same however they are read, and others with another seed", async () => {
  const model = createRandomModel(microSpec("llama3"));
  const other = createRandomModel(microSpec("llama3", { seed: 2 }));
  const tensor = { kind: "up", layer: 1 } as const;
  const { rows, columns } = extentOf(model.shape, "up");
  const whole = await model.readRows(tensor, 0, rows, noAbort);
  assert.equal(whole.length, rows * columns);
  assert.deepEqual(await model.readRows(tensor, 7, 3, noAbort), whole.slice(7 * columns, 10 * columns));
  assert.notDeepEqual(await other.readRows(tensor, 0, rows, noAbort), whole);
});

test("weights have a heavy tail, norms and biases are not all alike", async () => {
  const model = createRandomModel(microSpec("qwen2"));
  const up = await model.readRows({ kind: "up", layer: 0 }, 0, model.shape.ffnDim, noAbort);
  const deviation = Math.sqrt(up.reduce((sum, x) => sum + x * x, 0) / up.length);
  assert.ok(Math.max(...up.map(Math.abs)) > 6 * deviation);
  for (const kind of ["attnNorm", "ffnNorm", "qBias", "kBias", "vBias"] as const) {
    const values = await model.readRows({ kind, layer: 0 }, 0, 1, noAbort);
    assert.ok(new Set(values).size > values.length / 2, kind);
  }
});

test("a control token's output row is zero, so that greedy decoding goes on", async () => {
  const model = createRandomModel(microSpec("llama2"));
  const rows = await model.readRows({ kind: "output" }, 0, 5, noAbort);
  assert.ok(rows.subarray(0, 4 * model.shape.dim).every((x) => x === 0));
  assert.ok(rows.subarray(4 * model.shape.dim).some((x) => x !== 0));
});
