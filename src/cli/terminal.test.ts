import assert from "node:assert/strict";
import { test } from "node:test";
import { provideCommand } from "./terminal.ts";

test("whoever is told to add a provider is told where, unless it is where providers go anyway", () => {
  const usual = "npx skein provide --model <file.gguf>";
  assert.equal(provideCommand("http://127.0.0.1:4141"), usual);
  assert.equal(provideCommand("http://127.0.0.1:4141/"), usual);
  assert.equal(provideCommand("http://127.0.0.1:5141"), `${usual} --join http://127.0.0.1:5141`);
});
