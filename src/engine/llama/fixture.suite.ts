/** What the tests of the engine share: the demo model, and engines with it. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Clock, systemClock } from "../../util/clock.ts";
import { silentLogger } from "../../util/log.ts";
import { createLlamaEngine, type LlamaEngineOptions } from "./index.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
export const tinyModel = join(root, "models", "tiny.Q8_0.gguf");
export const moduleFolder = join(root, "engines", "llama", "node_modules", "node-llama-cpp");

export function openEngine(
  options: Partial<LlamaEngineOptions> = {},
  clock: Clock = systemClock,
): ReturnType<typeof createLlamaEngine> {
  return createLlamaEngine(
    { clock, log: silentLogger },
    {
      modelPath: tinyModel,
      moduleFolder,
      contextTokens: null,
      parallel: 8,
      threads: 1,
      gpu: false,
      modelId: "tiny-id",
      name: "tiny",
      ...options,
    },
  );
}
