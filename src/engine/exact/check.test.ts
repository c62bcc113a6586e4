import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { headerBytes, layout } from "../../exact/container/container.ts";
import { smallTokenizer } from "../../exact/container/fixture.suite.ts";
import { manifestOf, tokenizerBytes } from "../../exact/model/manifest.ts";
import { tensorsOf } from "../../exact/model/sink.ts";
import { diceOfSeed, randomShape } from "../../exact/random-model.suite.ts";
import type { SkeinError } from "../../util/errors.ts";
import { code } from "../asking.suite.ts";
import { sha256 } from "../sha256.ts";
import { checkModel } from "./check.ts";
import { tinySkein } from "./fixture.suite.ts";

const options = { signal: new AbortController().signal, positions: 6, budgetMs: 10_000, threads: 1 };

test("a model's hashes and arithmetic are checked", async () => {
  const checked = await checkModel(await tinySkein(), options);
  assert.equal(checked.difference, null);
  assert.equal(checked.positions, 6);
  const shared = await checkModel(await tinySkein(), { ...options, threads: 2 });
  assert.deepEqual(shared, checked);
});

test("a model that does not fit is refused before a weight is read", async () => {
  const folder = mkdtempSync(join(tmpdir(), "skein-check-"));
  try {
    const shape = randomShape(diceOfSeed(1), { layers: 1, dim: 16_384, vocabularySize: 2 ** 20 });
    const parts = {
      shape,
      quantization: "int8-row" as const,
      tokenizerBytes: tokenizerBytes(smallTokenizer("gpt2", 8)),
      chatTemplate: null,
      tensorRoots: tensorsOf(shape).map(() => new Uint8Array(32)),
    };
    const header = headerBytes({ ...parts, name: "huge", manifest: manifestOf(sha256, parts) });
    const path = join(folder, "huge.skein");
    writeFileSync(path, header);
    truncateSync(path, layout(shape, "int8-row", header.length).fileBytes);
    await assert.rejects(checkModel(path, options), (error) => {
      // Only flags that the command has.
      return (
        code("engine_unavailable")(error) && !/--(context|parallel)/.test(String((error as SkeinError).hint))
      );
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
