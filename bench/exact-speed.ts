/**
 * The exact engine's kernels beside llama.cpp on the same weights, in Q8_0 and with four bits in Q4_0, one thread each, in the same run: CPU time per
 * token of prefill and decode, what commitments cost, and the time to load the model from a file that was just read.
 *
 * What commitments cost is measured within answers: every second token is committed to, and its CPU time (all threads)
 * compared with that of its two neighbours. The figure is the median of all of these.
 *
 *   npm run bench -- exact-speed [--quick] [--model path.gguf] [--only load]
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { type RandomGgufShape, writeRandomGguf } from "../scripts/random-gguf.ts";
import { convertFile } from "../src/engine/exact/convert.ts";
import type { Quantization } from "../src/exact/model/model.ts";
import { opsHash } from "../src/exact/ops/version.ts";
import { toHex } from "../src/util/bytes.ts";
import { llamaModuleFolder } from "./lib/llama-module.ts";
import { cachedFile } from "./lib/model-cache.ts";
import { openModelFile, writeChangedModel } from "./lib/model-file.ts";
import type { SpeedLoaded, SpeedReply, SpeedSetup, SpeedTask } from "./exact-speed-child.ts";

const { values } = parseArgs({
  options: { quick: { type: "boolean" }, model: { type: "string" }, only: { type: "string" } },
});
const runs = values.quick ? 2 : 5;
const promptTokens = 384;
const outputTokens = values.quick ? 32 : 96;
const contextTokens = 512;

/** 128 million parameters: width, depth and vocabulary of GPT-2's size in Llama's form. */
const shape: RandomGgufShape = {
  family: "smollm",
  layers: 12,
  embedding: 768,
  feedForward: 3072,
  heads: 12,
  headsKv: 4,
  vocabularySize: 32_000,
  contextTokens: 4096,
  type: "Q8_0",
  seed: 1,
};

function benchmarkModel(): Promise<string> {
  if (values.model !== undefined) return Promise.resolve(values.model);
  return cachedFile(`random-128M-${shape.seed}.Q8_0.gguf`, (path) => writeRandomGguf(path, shape));
}

/** The same weights in four bits, for llama.cpp. */
function fourBitModel(path: string): Promise<string> {
  return cachedFile(`${stemOf(path)}.Q4_0.gguf`, async (target) =>
    writeChangedModel(target, path, await openModelFile(path), "Q4_0"),
  );
}

/** The model as the exact engine loads it. */
function convertedModel(path: string, quantization: Quantization): Promise<string> {
  const signal = new AbortController().signal;
  const name = `${stemOf(path)}-${toHex(opsHash).slice(0, 8)}-${quantization}.skein`;
  return cachedFile(name, (target) => convertFile(path, target, { signal, quantization }));
}

function stemOf(path: string): string {
  return basename(path, ".gguf").replace(/\.Q8_0$/, "");
}

/** A process that has loaded the model, and how long that took. */
async function start(side: SpeedSetup["side"], modelPath: string): Promise<[ChildProcess, SpeedLoaded]> {
  const moduleFolder = llamaModuleFolder;
  const setup: SpeedSetup = { side, modelPath, moduleFolder, contextTokens };
  const file = fileURLToPath(new URL("exact-speed-child.ts", import.meta.url));
  const child = fork(file, [JSON.stringify(setup)], {
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  const [loaded] = (await once(child, "message")) as [SpeedLoaded];
  return [child, loaded];
}

/** Loads in processes of their own, in turns: until the first token can leave, by the clock and in CPU time. */
async function measureLoads(path: string, rivalPath: string): Promise<Record<string, number>> {
  const rounds: (readonly [own: SpeedLoaded, rival: SpeedLoaded])[] = [];
  for (let run = -1; run < runs; run++) {
    const own = await measureLoad("exact", path);
    const rival = await measureLoad("llama", rivalPath);
    // The first round brings the files into the system's cache.
    if (run >= 0) rounds.push([own, rival]);
    const told = (one: SpeedLoaded): string =>
      `${one.loadMs.toFixed(0)} ms (CPU ${one.loadCpuMs.toFixed(0)} ms)`;
    console.error(`loading: exact ${told(own)}, llama.cpp ${told(rival)}`);
  }
  const ratio = (key: keyof SpeedLoaded): number =>
    median(rounds.map(([own, rival]) => rival[key] / own[key]));
  return {
    loadRatio: round(ratio("loadMs")),
    loadCpuRatio: round(ratio("loadCpuMs")),
    exactLoadMs: round(median(rounds.map(([own]) => own.loadMs))),
    exactLoadCpuMs: round(median(rounds.map(([own]) => own.loadCpuMs))),
  };
}

async function measureLoad(side: SpeedSetup["side"], path: string): Promise<SpeedLoaded> {
  const [child, loaded] = await start(side, path);
  child.disconnect();
  await once(child, "exit");
  return loaded;
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
  const [[exact], [llama]] = await Promise.all([
    start("exact", await convertedModel(path, quantization)),
    start("llama", rivalPath),
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
    head: ["CPU ms per token (medians)", "exact", `llama.cpp ${rival}`],
  });
  for (const [name, key, tokens] of rows) {
    const of = (side: "exact" | "llama"): string =>
      (median(results.map((result) => result[side][key])) / tokens).toFixed(2);
    table.push([name, of("exact"), of("llama")]);
  }
  console.log(table.toString());
}

/** What each committed token took more than its two neighbours, as a share. */
function overheads(tokenMs: readonly number[]): number[] {
  const inner = [...tokenMs.entries()].slice(1, -1).filter(([i]) => i % 2 === 1);
  return inner.map(([i, ms]) => (2 * ms) / (tokenMs[i - 1]! + tokenMs[i + 1]!) - 1);
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
const loads = await measureLoads(await convertedModel(modelPath, "int8-row"), modelPath);
if (values.only === "load") {
  console.log(JSON.stringify({ runs, ...loads }));
  process.exit(0);
}
const eight = await measure("int8-row", modelPath, modelPath);
show("Q8_0", eight);
const four = await measure("int4-group32", modelPath, await fourBitModel(modelPath));
show("Q4_0", four);
const overhead = 100 * median(eight.flatMap(({ committed }) => overheads(committed.tokenMs)));
console.log(
  JSON.stringify({
    runs,
    model: modelPath.split("/").at(-1),
    ...figuresOf(eight, 8),
    commitOverheadPercent: round(overhead),
    ...loads,
    ...figuresOf(four, 4),
  }),
);
