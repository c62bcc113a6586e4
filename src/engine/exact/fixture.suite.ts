/** What the tests of the engine share: the demo model, converted once, and engines with it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Clock, systemClock } from "../../util/clock.ts";
import { silentLogger } from "../../util/log.ts";
import { convertFile } from "./convert.ts";
import { createExactEngine, type ExactEngineOptions } from "./index.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
export const tinyGguf: string = join(root, "models", "tiny.Q8_0.gguf");

let converted: Promise<string> | null = null;

/** Path of the converted demo model; removed when the process ends. */
export function tinySkein(): Promise<string> {
  converted ??= (async () => {
    const folder = mkdtempSync(join(tmpdir(), "skein-exact-"));
    process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
    const path = join(folder, "tiny.skein");
    await convertFile(tinyGguf, path, { signal: new AbortController().signal });
    return path;
  })();
  return converted;
}

export async function openEngine(
  options: Partial<ExactEngineOptions> = {},
  clock: Clock = systemClock,
): ReturnType<typeof createExactEngine> {
  const modelPath = await tinySkein();
  return createExactEngine(
    { clock, log: silentLogger },
    { modelPath, name: null, contextTokens: null, parallel: null, threads: 1, ...options },
  );
}
