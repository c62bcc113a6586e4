/**
 * The exact engine's kernels beside llama.cpp on the same Q8_0 weights, one thread each, in the same run: CPU time per
 * token of prefill and decode, and what commitments cost.
 *
 *   npm run bench -- exact-speed [--quick] [--model path.gguf]
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { shape120M, writeRandomGguf } from "../scripts/random-gguf.ts";
import type { SpeedReply, SpeedSetup, SpeedTask } from "./exact-speed-child.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({ options: { quick: { type: "boolean" }, model: { type: "string" } } });
const runs = values.quick ? 2 : 5;
const promptTokens = 384;
const outputTokens = values.quick ? 32 : 96;
const contextTokens = 512;

async function benchmarkModel(): Promise<string> {
  if (values.model !== undefined) return values.model;
  const path = join(tmpdir(), "skein-bench", `random-120M-${shape120M.seed}.Q8_0.gguf`);
  if (!existsSync(path)) {
    await mkdir(dirname(path), { recursive: true });
    await writeRandomGguf(path, shape120M);
  }
  return path;
}

async function start(side: SpeedSetup["side"], modelPath: string): Promise<ChildProcess> {
  const moduleFolder = join(root, "engines", "llama", "node_modules", "node-llama-cpp");
  const setup: SpeedSetup = { side, modelPath, moduleFolder, contextTokens };
  const file = fileURLToPath(new URL("exact-speed-child.ts", import.meta.url));
  const child = fork(file, [JSON.stringify(setup)], {
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  await once(child, "message");
  return child;
}

async function ask(child: ChildProcess, task: SpeedTask): Promise<SpeedReply> {
  child.send(task);
  const [result] = (await once(child, "message")) as [SpeedReply];
  return result;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}

const modelPath = await benchmarkModel();
const [exact, llama] = await Promise.all([start("exact", modelPath), start("llama", modelPath)]);
const taskOf = (run: number, commits: boolean): SpeedTask => ({
  prompt: Array.from({ length: promptTokens }, (_, i) => 300 + ((i * 37 + run * 53) % 1000)),
  outputTokens,
  commits,
});
const results: { exact: SpeedReply; committed: SpeedReply; llama: SpeedReply }[] = [];
// The first round warms up: compilers, caches, clock speed.
for (let run = -1; run < runs; run++) {
  const rival = await ask(llama, taskOf(run, false));
  const plain = await ask(exact, taskOf(run, false));
  const committed = await ask(exact, taskOf(run, true));
  if (run >= 0) results.push({ exact: plain, committed, llama: rival });
  console.error(`round ${run + 2} of ${runs + 1}`);
}
exact.disconnect();
llama.disconnect();

const table = new Table({
  head: ["CPU ms per token (medians)", "exact", "exact, committed", "llama.cpp Q8_0"],
});
const rows = [
  ["prefill", "prefillMs", promptTokens],
  ["decode", "decodeMs", outputTokens],
] as const;
for (const [name, key, tokens] of rows) {
  const of = (side: keyof (typeof results)[number]): string =>
    (median(results.map((result) => result[side][key])) / tokens).toFixed(2);
  table.push([name, of("exact"), of("committed"), of("llama")]);
}
console.log(table.toString());
const ratio = (key: "prefillMs" | "decodeMs"): number =>
  round(median(results.map(({ exact: own, llama: rival }) => rival[key] / own[key])));
const overhead = median(
  results.map(({ exact: plain, committed }) => (committed.decodeMs / plain.decodeMs - 1) * 100),
);
function round(x: number): number {
  return Math.round(x * 1000) / 1000;
}
console.log(
  JSON.stringify({
    runs,
    model: modelPath.split("/").at(-1),
    decodeRatioInt8: ratio("decodeMs"),
    prefillRatioInt8: ratio("prefillMs"),
    commitOverheadPercent: round(overhead),
    exactDecodeMsPerToken: round(median(results.map((r) => r.exact.decodeMs)) / outputTokens),
    exactPrefillMsPerToken: round(median(results.map((r) => r.exact.prefillMs)) / promptTokens),
    memoryRatio: round(results.at(-1)!.exact.residentBytes / results.at(-1)!.llama.residentBytes),
  }),
);
