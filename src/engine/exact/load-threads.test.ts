import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readHeader } from "../../exact/container/container.ts";
import { containerOf, smallTokenizer, tensorBytesOf } from "../../exact/container/fixture.suite.ts";
import { diceOfSeed, giveModel, randomModel, randomShape } from "../../exact/random-model.suite.ts";
import { createWasmExecutor, type WasmExecutor } from "../../exact/wasm/executor.ts";
import { loadWasmExecutor } from "../../exact/wasm/load.ts";
import { SkeinError } from "../../util/errors.ts";
import { type FileSource, openFileSource } from "../file-source.ts";
import { sha256 } from "../sha256.ts";
import { withLoadThreads } from "./load-threads.ts";

const folder = mkdtempSync(join(tmpdir(), "skein-load-"));
after(() => rmSync(folder, { recursive: true }));

const never = new AbortController().signal;
const dice = diceOfSeed(3);
const shape = randomShape(dice, { layers: 2, dim: 256, ffnDim: 2_048, vocabularySize: 4_099, headDim: 32 });
const model = await randomModel(dice, shape, "calm");
const tensors = await tensorBytesOf(model);
const file = containerOf({
  shape,
  name: "",
  tokenizer: smallTokenizer("gpt2", 8),
  chatTemplate: null,
  tensors,
});

/** As if the file were large enough for help. */
async function loadWithHelp(
  name: string,
  bytes: Uint8Array,
  change: Partial<FileSource> = {},
): Promise<WasmExecutor> {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  const source = await openFileSource(path);
  const changed = { ...source, ...change };
  try {
    return await withLoadThreads({ ...changed, size: 2 ** 40 }, 2, async (helpers) => {
      assert.ok(helpers?.count === 2);
      const header = await readHeader(source, sha256, never);
      return loadWasmExecutor(changed, header, sha256, { executor: {}, signal: never, helpers });
    });
  } finally {
    await source.close();
  }
}

function logitsOf(executor: WasmExecutor): Int32Array {
  const sequence = executor.newSequence();
  return executor.step([{ sequence, input: 4_098, wantsLogits: true }])[0]!;
}

test("several threads load what one places", async () => {
  const making = createWasmExecutor(shape);
  await giveModel(model, making.sink);
  assert.deepEqual(logitsOf(await loadWithHelp("whole", file)), logitsOf(making.executor()));
});

test("what helpers read is checked as well", async () => {
  const damaged = file.slice();
  // In every piece, so that helpers have some.
  for (let at = 100_000; at < damaged.length; at += 200_000) damaged[at]! ^= 1;
  await assert.rejects(loadWithHelp("damaged", damaged), (error) => {
    return (
      error instanceof SkeinError && error.code === "invalid_model_file" && /damaged/.test(error.message)
    );
  });
});

test("a helper that cannot read ends the load", async () => {
  // This thread takes a piece and never gets it.
  const readInto = (): Promise<void> => new Promise(() => undefined);
  await assert.rejects(loadWithHelp("unreadable", file, { descriptor: 1_000_000, readInto }), (error) => {
    return error instanceof SkeinError && error.code === "engine_unavailable" && /EBADF/.test(error.message);
  });
});

test("small files are loaded without help", async () => {
  await withLoadThreads({ descriptor: 0, size: 1_000_000 }, 2, async (helpers) => {
    assert.equal(helpers, undefined);
  });
});
