/**
 * The exact engine's kernels beside llama.cpp on the same weights, in Q8_0 and with four bits in Q4_0, one thread each, in the same run: CPU time per
 * token of prefill and decode, and what commitments cost.
 *
 *   npm run bench -- exact-speed [--quick] [--model path.gguf]
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { shape120M, writeRandomGguf } from "../scripts/random-gguf.ts";
import type { Quantization } from "../src/exact/model/model.ts";
import { llamaModuleFolder } from "./lib/llama-module.ts";
import { openModelFile, writeChangedModel } from "./lib/model-file.ts";
import type { SpeedReply, SpeedSetup, SpeedTask } from "./exact-speed-child.ts";

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

/** The same weights in four bits, for llama.cpp. */
async function fourBitModel(path: string): Promise<string> {
  const target = join(tmpdir(), "skein-bench", `${basename(path, ".gguf").replace(/\.Q8_0$/, "")}.Q4_0.gguf`);
  if (!existsSync(target)) {
    await mkdir(dirname(target), { recursive: true });
    await writeChangedModel(target, path, await openModelFile(path), "Q4_0");
  }
  return target;
}

async function start(
  side: SpeedSetup["side"],
  modelPath: string,
  quantization: Quantization,
): Promise<ChildProcess> {
  const moduleFolder = llamaModuleFolder;
  const setup: SpeedSetup = { side, modelPath, moduleFolder, contextTokens, quantization };
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

const taskOf = (run: number, commits: boolean): SpeedTask => ({
  prompt: Array.from({ length: promptTokens }, (_, i) => 300 + ((i * 37 + run * 53) % 1000)),
  outputTokens,
  commits,
});

interface Round {
  readonly exact: SpeedReply;
  readonly committed: SpeedReply;
  readonly llama: SpeedReply;
}

/** Both take turns. */
async function measure(quantization: Quantization, path: string, rivalPath: string): Promise<Round[]> {
  const [exact, llama] = await Promise.all([
    start("exact", path, quantization),
    start("llama", rivalPath, quantization),
  ]);
  const results: Round[] = [];
  // The first round warms up: compilers, caches, clock speed.
  for (let run = -1; run < runs; run++) {
    const rival = await ask(llama, taskOf(run, false));
    const plain = await ask(exact, taskOf(run, false));
    const committed = await ask(exact, taskOf(run, true));
    if (run >= 0) results.push({ exact: plain, committed, llama: rival });
    console.error(`${quantization}: round ${run + 2} of ${runs + 1}`);
  }
  exact.disconnect();
  llama.disconnect();
  return results;
}

const rows = [
  ["prefill", "prefillMs", promptTokens],
  ["decode", "decodeMs", outputTokens],
] as const;

function show(rival: string, results: readonly Round[]): void {
  const table = new Table({
    head: ["CPU ms per token (medians)", "exact", "exact, committed", `llama.cpp ${rival}`],
  });
  for (const [name, key, tokens] of rows) {
    const of = (side: keyof Round): string =>
      (median(results.map((result) => result[side][key])) / tokens).toFixed(2);
    table.push([name, of("exact"), of("committed"), of("llama")]);
  }
  console.log(table.toString());
}

function figuresOf(results: readonly Round[], bits: 8 | 4): Record<string, number> {
  const ratio = (key: "prefillMs" | "decodeMs"): number =>
    round(median(results.map(({ exact: own, llama: rival }) => rival[key] / own[key])));
  const perToken = (key: "prefillMs" | "decodeMs", tokens: number): number =>
    round(median(results.map((result) => result.exact[key])) / tokens);
  const { exact, llama } = results.at(-1)!;
  const four = bits === 4 ? "Int4" : "";
  return {
    [`decodeRatioInt${bits}`]: ratio("decodeMs"),
    [`prefillRatioInt${bits}`]: ratio("prefillMs"),
    [`exactDecodeMsPerToken${four}`]: perToken("decodeMs", outputTokens),
    [`exactPrefillMsPerToken${four}`]: perToken("prefillMs", promptTokens),
    [`memoryRatio${four}`]: round(exact.residentBytes / llama.residentBytes),
  };
}

function round(x: number): number {
  return Math.round(x * 1000) / 1000;
}

const modelPath = await benchmarkModel();
const eight = await measure("int8-row", modelPath, modelPath);
show("Q8_0", eight);
const four = await measure("int4-group32", modelPath, await fourBitModel(modelPath));
show("Q4_0", four);
const overhead = median(
  eight.map(({ exact: plain, committed }) => (committed.decodeMs / plain.decodeMs - 1) * 100),
);
console.log(
  JSON.stringify({
    runs,
    model: modelPath.split("/").at(-1),
    ...figuresOf(eight, 8),
    commitOverheadPercent: round(overhead),
    ...figuresOf(four, 4),
  }),
);
