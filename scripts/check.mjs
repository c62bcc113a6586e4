// npm run check: format, lint, types, dead code. Each tool runs under the project's Node.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureInstalled } from "../bin/install.mjs";
import { requireNode24 } from "../bin/node24.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
ensureInstalled({ development: true });
const node = requireNode24();
// oxlint's type-aware mode starts its own helper through PATH.
process.env.PATH = `${join(root, "node_modules", ".bin")}${process.platform === "win32" ? ";" : ":"}${process.env.PATH}`;

const sources = ["src", "test", "bench", "scripts", "bin", "examples"];
const steps = [
  ["format", "oxfmt/bin/oxfmt", "--check", ...sources],
  ["types", "typescript/bin/tsc"],
  ["lint", "oxlint/bin/oxlint", "--type-aware", "--deny-warnings", ...sources],
  ["dead code", "knip/bin/knip.js"],
];
for (const [name, script, ...args] of steps) {
  const startMs = performance.now();
  const result = spawnSync(node, [join(root, "node_modules", script), ...args], {
    cwd: root,
    encoding: "utf8",
  });
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  if (result.status === 0) {
    console.log(`ok    ${name} (${seconds} s)`);
  } else {
    console.log(`FAIL  ${name} (${seconds} s)\n${result.stdout}${result.stderr}`);
    process.exitCode = 1;
  }
}
