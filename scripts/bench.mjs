// npm run bench -- <name> [--quick]: one benchmark, under the project's Node; `--help` says what it measures and takes.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureInstalled, keepCompiled } from "../bin/install.mjs";
import { requireNode24 } from "../bin/node24.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [name, ...args] = process.argv.slice(2);
const fileOf = (bench) => join(root, "bench", `${bench}.ts`);

/** The comment that a benchmark begins with. */
function aboutOf(bench) {
  const [, text = ""] = /^\/\*\*([^]*?)\*\//.exec(readFileSync(fileOf(bench), "utf8")) ?? [];
  return text.replaceAll(/\s*\n \* ?/g, "\n").trim();
}

if (name === undefined || !existsSync(fileOf(name))) {
  const names = readdirSync(join(root, "bench"))
    .filter((entry) => entry.endsWith(".ts") && !/-(?:rival|load|subject|child)\./.test(entry))
    .map((entry) => entry.replace(/\.ts$/, ""));
  const firstLine = (bench) => {
    const withoutFlags = aboutOf(bench)
      .replaceAll("\n", " ")
      .replaceAll(/ \(`[^)]*\)/g, "");
    return withoutFlags.split(/[.:;](?:\s|$)/, 1)[0];
  };
  const lines = names.map((bench) => `  ${bench.padEnd(18)}${firstLine(bench)}`);
  console.error(`Usage: npm run bench -- <name> [--quick | --help]\n\n${lines.join("\n")}`);
  process.exit(2);
}
const file = fileOf(name);
if (args.includes("--help")) {
  const options = [...readFileSync(file, "utf8").matchAll(/^ {4}"?([a-z-]+)"?: \{ type: "(\w+)"/gm)];
  const flags = options.map(([, flag, type]) => (type === "string" ? `[--${flag} …]` : `[--${flag}]`));
  console.log(`npm run bench -- ${[name, ...flags].join(" ")}\n\n${aboutOf(name)}`);
  process.exit(0);
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
