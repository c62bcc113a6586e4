import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { budgetFile } from "./budget-file.ts";

test("a sum is kept in one private file, and replaced whole", () => {
  const folder = mkdtempSync(join(tmpdir(), "skein-budget-"));
  try {
    const path = join(folder, "budget.json");
    const store = budgetFile(path);
    assert.equal(store.read(), null);
    store.write("1");
    store.write("2");
    assert.equal(store.read(), "2");
    assert.deepEqual(readdirSync(folder), ["budget.json"]);
    if (process.platform !== "win32") assert.equal(statSync(path).mode & 0o777, 0o600);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
