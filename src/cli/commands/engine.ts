import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { SkeinError } from "../../util/errors.ts";
import { contextOf } from "../context.ts";
import {
  findLlamaEngine,
  folderBytes,
  type GpuBackend,
  installedBackends,
  installLlamaEngine,
  missingEngine,
  userEngineFolder,
} from "../engine-install.ts";
import { stopSignal } from "../foreground.ts";
import { runNpm } from "../npm.ts";
import { seconds, step, table } from "../terminal.ts";

function requireKnown(name: string): void {
  if (name === "llama") return;
  throw new SkeinError("invalid_config", `There is no engine '${name}' to install.`, {
    hint: "The one to install is llama.",
  });
}

/** `skein engine add` */
export async function addEngine(name: string, command: Command): Promise<void> {
  requireKnown(name);
  const { home, flags } = contextOf(command, ["gpu"]);
  const startMs = performance.now();
  const gpu = (flags["gpu"] as GpuBackend | undefined) ?? null;
  const { folder, installed } = await installLlamaEngine(home, {
    gpu,
    bundled: flags["bundled"] === true,
    signal: stopSignal(),
    onOutput: (line) => step("doing", line),
    runNpm,
  });
  if (!installed && flags["bundled"] === true) return;
  const size = Math.round(folderBytes(folder) / 1e6);
  step(
    "done",
    `llama engine (${installedBackends(folder).join(", ")}), ${size} MB in ${folder} (${seconds(startMs)})`,
  );
}

/** `skein engine list` */
export function listEngines(command: Command): void {
  const { home, flags } = contextOf(command);
  const found = findLlamaEngine(home);
  const engines =
    found === null
      ? []
      : [
          {
            engine: "llama",
            version: (
              JSON.parse(readFileSync(join(found.moduleFolder, "package.json"), "utf8")) as {
                version: string;
              }
            ).version,
            backends: installedBackends(found.folder),
            megabytes: Math.round(folderBytes(found.folder) / 1e6),
            folder: found.folder,
          },
        ];
  if (flags["json"] === true) console.log(JSON.stringify(engines, null, 2));
  else if (engines.length === 0) console.log(missingEngine(home).text);
  else {
    const rows = engines.map((engine) => [
      engine.engine,
      engine.version,
      engine.backends.join(", "),
      `${engine.megabytes} MB`,
      engine.folder,
    ]);
    console.log(table(["engine", "node-llama-cpp", "backends", "size", "folder"], rows));
  }
}

/** `skein engine remove` */
export function removeEngine(name: string, command: Command): void {
  requireKnown(name);
  const folder = userEngineFolder(contextOf(command).home);
  if (!existsSync(folder)) throw new SkeinError("invalid_config", `There is no llama engine in ${folder}.`);
  rmSync(folder, { recursive: true });
  step("done", `removed ${folder}`);
}
