// Writes vectors/ and the hash in src/exact/ops/version.ts; with --check only says whether they are up to date.
// Vectors change when operations do: converted models have another identity then, and must be converted again.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { toHex } from "../src/util/bytes.ts";
import { operationsFile, vectorFiles } from "../src/exact/vectors/files.suite.ts";
import { opsHash } from "../src/exact/ops/version.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "vectors");
const version = join(root, "src", "exact", "ops", "version.ts");

const before = toHex(opsHash);
const after = createHash("sha256").update(operationsFile()).digest("hex");
if (process.argv.includes("--check")) {
  const files = await vectorFiles();
  const stale = [...files].filter(([name, text]) => readOrNothing(join(folder, name)) !== text);
  if (before !== after || stale.length > 0) {
    console.error(
      `Not up to date: ${stale.map(([name]) => name).join(", ")}. Run: node scripts/exact-vectors.ts`,
    );
    process.exitCode = 1;
  }
} else if (before !== after) {
  // The demo model's identity depends on the hash, and this process has the old one.
  writeFileSync(version, readFileSync(version, "utf8").replace(before, after));
  process.exitCode =
    spawnSync(process.execPath, [fileURLToPath(import.meta.url)], { stdio: "inherit" }).status ?? 1;
} else {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of await vectorFiles()) {
    writeFileSync(join(folder, name), text);
    console.log(`${name}: ${text.length} bytes`);
  }
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
