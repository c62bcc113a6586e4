// npm run bench -- <name> [--quick]: one benchmark, under the project's Node.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureInstalled, keepCompiled } from "../bin/install.mjs";
import { requireNode24 } from "../bin/node24.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [name, ...args] = process.argv.slice(2);
const file = join(root, "bench", `${name}.ts`);

if (name === undefined || !existsSync(file)) {
  const names = readdirSync(join(root, "bench"))
    .filter((entry) => entry.endsWith(".ts") && !/-(?:rival|load|subject|child)\./.test(entry))
    .map((entry) => entry.replace(/\.ts$/, ""));
  console.error(`Usage: npm run bench -- <name> [--quick]\nBenchmarks: ${names.join(", ")}`);
  process.exit(2);
}
ensureInstalled({ development: true });
const node = requireNode24();
keepCompiled();
const engine = spawnSync(node, [join(root, "bin", "skein.mjs"), "engine", "add", "llama", "--bundled"], {
  stdio: "inherit",
});
if (engine.status !== 0) process.exit(1);
const result = spawnSync(node, ["--disable-warning=ExperimentalWarning", file, ...args], {
  cwd: root,
  stdio: "inherit",
});
process.exit(result.status ?? 1);
