/** What the tests of the engine share: the demo model, converted once, and engines with it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { containerOf, smallTokenizer, tensorBytesOf } from "../../exact/container/fixture.suite.ts";
import { diceOfSeed, randomModel, randomShape } from "../../exact/random-model.suite.ts";
import { type Clock, systemClock } from "../../util/clock.ts";
import { silentLogger } from "../../util/log.ts";
import { convertFile } from "./convert.ts";
import { createExactEngine, type ExactEngineOptions } from "./index.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
export const tinyGguf: string = join(root, "models", "tiny.Q8_0.gguf");

const draftGguf: string = join(root, "models", "draft.F16.gguf");

let folder: string | null = null;
const converted = new Map<string, Promise<string>>();

/** Of a file that `write` makes once; removed when the process ends. */
function temporary(name: string, write: (path: string) => Promise<unknown>): Promise<string> {
  if (folder === null) {
    const own = (folder = mkdtempSync(join(tmpdir(), "skein-exact-")));
    process.on("exit", () => rmSync(own, { recursive: true, force: true }));
  }
  const path = join(folder, name);
  let file = converted.get(name);
  if (file === undefined) converted.set(name, (file = write(path).then(() => path)));
  return file;
}

/** Path of the converted demo model. */
export function tinySkein(): Promise<string> {
  return temporary("tiny.skein", (path) => convertFile(tinyGguf, path, { signal: never }));
}

/** Of a smaller one with the same tokenizer. */
export function draftSkein(): Promise<string> {
  return temporary("draft.skein", (path) => convertFile(draftGguf, path, { signal: never }));
}

/** Of a model with another tokenizer. */
export function foreignSkein(): Promise<string> {
  return temporary("foreign.skein", async (path) => {
    const shape = randomShape(diceOfSeed(1), { vocabularySize: 9 });
    const tensors = await tensorBytesOf(await randomModel(diceOfSeed(2), shape, "calm"));
    const tokenizer = smallTokenizer("gpt2", 8);
    writeFileSync(path, containerOf({ shape, name: "foreign", tokenizer, chatTemplate: null, tensors }));
  });
}

const never = new AbortController().signal;

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
