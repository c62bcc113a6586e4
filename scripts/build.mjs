// Compiles src/ to dist/ for the published package: Node does not strip types below node_modules.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureInstalled } from "../bin/install.mjs";
import { requireNode24 } from "../bin/node24.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
ensureInstalled({ development: true });
rmSync(join(root, "dist"), { recursive: true, force: true });
const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
const result = spawnSync(requireNode24(), [compiler, "-p", "tsconfig.build.json"], {
  cwd: root,
  // npm reads stdout of lifecycle scripts (`npm pack --json`).
  stdio: ["ignore", 2, 2],
});
process.exit(result.status ?? 1);
