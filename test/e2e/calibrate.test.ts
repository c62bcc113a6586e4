/** `skein calibrate`: a record from real answers that auditors can read. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { limitsFor, parseCalibration } from "../../src/audit/calibration.ts";
import { killAll, skeinToEnd, temporaryHome, tinyModel } from "./processes.ts";

const home = temporaryHome();
after(async () => {
  await killAll();
  home.remove();
});

test("honest answers are measured, and the record is written", async () => {
  const output = join(home.path, "record.json");
  const flags = ["--streams", "42", "--max-tokens", "8", "--threads", "1", "--gpu", "off"];
  const ended = await skeinToEnd(home.path, "calibrate", "--model", tinyModel, "--output", output, ...flags);
  assert.equal(ended.code, 0, ended.output);
  assert.match(ended.output, /record\.json: 42 answers/);
  const record = parseCalibration(readFileSync(output, "utf8"));
  assert.match(record.model_id, /^gguf-sha256:/);
  assert.match(record.runtime, /^node-llama-cpp \d/);
  assert.ok(record.streams === 42 && record.tokens > 42 && record.shapes.length === 6);
  for (const name of ["greedy", "hot"] as const) {
    for (const { clip, meanMax } of limitsFor(record, name)) assert.ok(clip >= 0.05 && meanMax < 1);
  }
});

test("what is no model is refused", async () => {
  const { code, output } = await skeinToEnd(home.path, "calibrate", "--model", join(home.path, "none.gguf"));
  assert.equal(code, 1);
  assert.match(output, /none\.gguf/);
});
