#!/usr/bin/env node
// The entry for any Node >= 20: installs what a checkout lacks, finds a Node that runs the project,
// and hands over to src/cli/main.ts (in a checkout) or dist/cli/main.js (in an installed package).
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ensureInstalled, isCheckout } from "./install.mjs";
import { requireNode24 } from "./node24.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const main = isCheckout ? join(root, "src", "cli", "main.ts") : join(root, "dist", "cli", "main.js");

ensureInstalled({ development: false });
const node = requireNode24();
if (node === process.execPath) {
  await import(pathToFileURL(main).href);
} else {
  const child = spawn(node, ["--disable-warning=ExperimentalWarning", main, ...process.argv.slice(2)], {
    stdio: "inherit",
  });
  // A terminal's Ctrl-C reaches the whole group; signals sent to this process alone are passed on.
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  // Without a terminal nobody else passes Ctrl-C's signal on; with one, a second SIGINT would mean "at once".
  process.on("SIGINT", () => {
    if (!process.stdin.isTTY) child.kill("SIGTERM");
  });
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? (signal === "SIGINT" ? 130 : 143);
  });
}
