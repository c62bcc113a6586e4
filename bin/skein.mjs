#!/usr/bin/env node
// The entry for any Node >= 20: installs what a checkout lacks, finds a Node that runs the project,
// and hands over to src/cli/main.ts (in a checkout) or dist/cli/main.js (in an installed package).
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ensureInstalled, isCheckout, keepCompiled } from "./install.mjs";
import { requireNode24 } from "./node24.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const main = isCheckout ? join(root, "src", "cli", "main.ts") : join(root, "dist", "cli", "main.js");

ensureInstalled({ development: false });
const node = requireNode24();
keepCompiled();
if (node === process.execPath) await import(pathToFileURL(main).href);
else runUnder(node);

function runUnder(otherNode) {
  const args = ["--disable-warning=ExperimentalWarning", main, ...process.argv.slice(2)];
  const child = spawn(otherNode, args, {
    // Nothing is said over the channel: its closing tells the child that this process is gone, even by SIGKILL.
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, SKEIN_LAUNCHED: "1" },
  });
  // A terminal's Ctrl-C reaches the whole group; signals sent to this process alone are passed on.
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  // Without a terminal nobody else passes Ctrl-C's signal on; with one, a second SIGINT would mean "at once".
  process.on("SIGINT", () => {
    if (![process.stdin, process.stdout, process.stderr].some(({ isTTY }) => isTTY)) child.kill("SIGTERM");
  });
  child.on("error", (error) => {
    console.error(`${otherNode} cannot be run: ${error.message}`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
}
