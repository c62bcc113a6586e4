import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");

test("the kernels are what their sources give, byte by byte", () => {
  const { status, stderr } = spawnSync(
    process.execPath,
    [join(root, "scripts", "build-kernels.mjs"), "--check"],
    { cwd: root, encoding: "utf8" },
  );
  assert.equal(status, 0, stderr);
});
