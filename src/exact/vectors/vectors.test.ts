import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { toHex } from "../../util/bytes.ts";
import { opsHash } from "../ops/version.ts";
import { bigAnswers } from "./big-answers.suite.ts";
import { demoFiles, operationsFile, traceFile } from "./files.suite.ts";
import { traceSpecs } from "./traces.suite.ts";

const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..", "vectors");
const read = (name: string): string => readFileSync(join(folder, name), "utf8");
const hint = "vectors are not up to date: node scripts/exact-vectors.ts";

test("operations are those of the vectors, and their hash is what models commit to", () => {
  const text = read("operations.json");
  assert.equal(operationsFile() === text, true, hint);
  assert.equal(toHex(opsHash), createHash("sha256").update(text).digest("hex"), hint);
});

test("big integers give what the vectors say, from the file alone", () => {
  const vectors = JSON.parse(read("operations.json")) as Record<string, Record<string, never>[]>;
  const checked = new Set<string>();
  for (const [name, answer] of Object.entries(bigAnswers)) {
    for (const [i, one] of vectors[name]!.entries()) {
      const expected = JSON.stringify(one["result"]);
      assert.equal(JSON.stringify(answer(one), plain), expected, `${name}, case ${i}`);
    }
    checked.add(name);
  }
  // Tables and bytes have tests of their own beside their code.
  const elsewhere = ["tables", "packResidual", "layerLeafBytes"];
  assert.deepEqual(new Set([...checked, ...elsewhere]), new Set(Object.keys(vectors)));
});

function plain(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : value;
}

for (const spec of traceSpecs) {
  test(`both executors give the trace of the ${spec.name} model`, async () => {
    const text = read(`trace-${spec.name}.json`);
    assert.equal((await traceFile(spec, "reference")) === text, true, hint);
    assert.equal((await traceFile(spec, "wasm")) === text, true, "the kernels give other bits");
  });
}

test("both executors give the trace of the demo model, converted anew", async () => {
  const text = read("trace-tiny.json");
  const files = await demoFiles();
  assert.equal(files.reference === text, true, hint);
  assert.equal(files.wasm === text, true, "the kernels give other bits");
});

test("every file in vectors/ is one of these", () => {
  const names = traceSpecs.map(({ name }) => `trace-${name}.json`);
  assert.deepEqual(
    new Set(readdirSync(folder)),
    // Receipts have their own script and test.
    new Set(["README.md", "operations.json", "receipts.json", "trace-tiny.json", ...names]),
  );
});
