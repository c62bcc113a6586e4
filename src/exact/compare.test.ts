import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { createHash } from "node:crypto";
import { memorySource } from "../formats/byte-source.ts";
import { type Comparison, compareExecutors } from "./compare.ts";
import type { Sha256 } from "./commitment/commitment.ts";
import type { Executor } from "./executor.ts";
import { convertModel } from "./import/convert.ts";
import { importGguf } from "./import/gguf.ts";
import { exactShapeOf } from "./import/shape.ts";
import { collectModel } from "./model/sink.ts";
import { createReferenceExecutor } from "./reference/executor.ts";
import { samplerParameters } from "./sampler/parameters.ts";
import { createWasmExecutor } from "./wasm/executor.ts";

const signal = new AbortController().signal;
const tinyFile = new URL("../../models/tiny.Q8_0.gguf", import.meta.url);
const sha256: Sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};
const sampler = samplerParameters({
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 1,
});
const options = { prompts: [[300, 301, 302], [7], [900, 901]], positions: 5, sampler };

let quick: Executor;
let reference: Executor;
before(async () => {
  const { source } = await importGguf([memorySource("tiny", readFileSync(tinyFile))], signal);
  const shape = exactShapeOf(source.shape);
  const collected = collectModel(shape);
  const wasm = createWasmExecutor(shape, { contextTokensMax: 64, rowsMax: 4 });
  await convertModel(
    source,
    shape,
    {
      async norm(tensor, weights) {
        await collected.norm(tensor, weights);
        await wasm.sink.norm(tensor, weights);
      },
      async matrix(tensor, matrix) {
        await collected.matrix(tensor, matrix);
        await wasm.sink.matrix(tensor, matrix);
      },
    },
    { signal },
  );
  quick = wasm.executor();
  reference = createReferenceExecutor(collected.model());
});

function last(comparing: Iterable<Comparison>): Comparison {
  return [...comparing].at(-1)!;
}

test("executors that do the same agree at every position", () => {
  assert.deepEqual(last(compareExecutors(sha256, quick, reference, options)), {
    positions: 15,
    total: 15,
    difference: null,
  });
});

/** The same executor, but for one bit of what one layer makes of one token. */
function withFlippedBit(executor: Executor, wrongToken: number, wrongLayer: number | null): Executor {
  return {
    ...executor,
    shape: executor.shape,
    range: executor.range,
    contextTokensMax: executor.contextTokensMax,
    rowsMax: executor.rowsMax,
    newSequence: () => executor.newSequence(),
    step(rows, onLayer) {
      const isWrong = (row: number): boolean => rows[row]!.input === wrongToken;
      const outputs = executor.step(rows, (row, layer, bytes) => {
        const shown = bytes.slice();
        if (isWrong(row) && layer === wrongLayer) shown[shown.length - 1]! ^= 1;
        onLayer?.(row, layer, shown);
      });
      return outputs.map((logits, row) => {
        const shown = logits?.slice() ?? null;
        if (shown !== null && wrongLayer === null && isWrong(row)) shown[shown.length - 1]! ^= 1;
        return shown;
      });
    },
  };
}

test("a single bit is found where it is, and nothing is compared after it", () => {
  for (const layer of [0, 1, 6, null]) {
    const wrong = withFlippedBit(quick, 901, layer);
    const result = last(compareExecutors(sha256, wrong, reference, options));
    assert.deepEqual(result.difference, { sequence: 2, position: 1, part: layer ?? "logits" });
    assert.equal(result.positions, 6);
  }
});
