// npm run bench -- <name> [--quick]: one benchmark, under the project's Node.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { constants } from "node:os";
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
const child = spawn(node, ["--disable-warning=ExperimentalWarning", file, ...args], {
  cwd: root,
  stdio: "inherit",
});
// Ctrl-C reaches the benchmark by itself; what it has so far is printed then.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
