// npm test: everything that decides whether a change is good. `unit` or `e2e` with a pattern runs a part.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureInstalled, keepCompiled } from "../bin/install.mjs";
import { requireNode24 } from "../bin/node24.mjs";
import { findFiles } from "./files.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [part = "all", pattern = ""] = process.argv.slice(2);

ensureInstalled({ development: true });
const node = requireNode24();
keepCompiled();
// A home of its own, so that no test reads or changes the developer's configuration.
const home = mkdtempSync(join(tmpdir(), "skein-test-"));
process.env.SKEIN_HOME ??= home;
process.env.NODE_ENV ??= "test";
process.on("exit", () => rmSync(home, { recursive: true, force: true }));

/** End-to-end tests of what happens in time, or on all cores. The others mostly wait for processes: two go at once. */
const alone = ["chaos.test.ts", "move.test.ts", "browser.test.ts", "supervision.test.ts"];
const flags = ["--disable-warning=ExperimentalWarning", "--test", "--test-timeout=180000"];
if (part === "all") run([join(root, "scripts", "check.mjs")]);
run([join(root, "bin", "skein.mjs"), "engine", "add", "llama", "--bundled"]);
if (part === "all" || part === "unit") {
  run([...flags, "--test-isolation=none", ...tests("src", "bench")]);
}
if (part === "all" || part === "e2e") {
  const files = tests(join("test", "e2e"));
  const isAlone = (file) => alone.includes(basename(file));
  const [others, few] = [files.filter((file) => !isAlone(file)), files.filter(isAlone)];
  if (others.length > 0) run([...flags, "--test-concurrency=2", ...others]);
  if (few.length > 0) run([...flags, "--test-concurrency=1", ...few]);
}

function tests(...folders) {
  const files = folders
    .flatMap((folder) => findFiles(join(root, folder), ".test.ts"))
    .filter((file) => file.includes(pattern));
  if (files.length === 0) {
    console.error(`No test file below ${folders.join(" or ")} has "${pattern}" in its path.`);
    process.exit(1);
  }
  return files;
}

function run(args) {
  const result = spawnSync(node, args, { cwd: root, stdio: "inherit" });
  if (result.status !== 0) process.exit(result.status ?? 1);
}
