// In a checkout: installs the lockfile's packages when they are missing or the lockfile changed.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import module from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(root, "node_modules", ".skein-install.json");

/** Whether this is a checkout (sources beside the entry), not an installed package. */
export const isCheckout = existsSync(join(root, "src", "cli", "main.ts"));

/** Installs with development packages when `development`; those are never removed again. */
export function ensureInstalled({ development }) {
  if (!isCheckout) return;
  const lockHash = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
  const stamp = readStamp();
  if (stamp?.lockHash === lockHash && (stamp.development || !development)) return;
  const withDevelopment = development || stamp?.development === true;
  console.error("Installing packages (once; about ten seconds with a warm cache) …");
  const args = ["ci", "--no-fund", "--no-audit", "--loglevel=error"];
  if (!withDevelopment) args.push("--omit=dev");
  const result = spawnSync("npm", args, {
    cwd: root,
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
  if (result.status !== 0) {
    console.error(
      "`npm ci` failed (its output is above). Check the network or proxy settings, then try again.",
    );
    process.exit(1);
  }
  writeFileSync(stampFile, JSON.stringify({ lockHash, development: withDevelopment }));
}

function readStamp() {
  try {
    return JSON.parse(readFileSync(stampFile, "utf8"));
  } catch {
    return null;
  }
}

/**
 * A checkout's processes start in half the time where Node finds its modules compiled already. Beside the packages, for
 * whoever can write there can write the code itself.
 */
export function keepCompiled() {
  if (!isCheckout) return;
  process.env.NODE_COMPILE_CACHE ??= join(root, "node_modules", ".cache", "compiled");
  module.enableCompileCache?.(process.env.NODE_COMPILE_CACHE);
}
