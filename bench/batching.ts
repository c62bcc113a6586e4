/**
 * What the engine around llama.cpp costs: decode throughput through the whole `llama` engine (child
 * process, messages, scheduler, text) against a bare loop over the same binaries, in the same run.
 *
 *   npm run bench -- batching [--quick]
 */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import Table from "cli-table3";
import { shape120M, writeRandomGguf } from "../scripts/random-gguf.ts";
import { createLlamaEngine } from "../src/engine/llama/index.ts";
import type { Engine } from "../src/engine/port.ts";
import { type GenerateRequest, greedySampling } from "../src/protocol/generate.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { llamaModuleFolder } from "./lib/llama-module.ts";
import type { RivalReply, RivalTask } from "./batching-rival.ts";

const rivalName = "engine alone (bare loop over node-llama-cpp 3.22.1's inner context)";
const streamCounts = [1, 4, 16] as const;
const contextTokens = 512;
const promptTokens = 16;

const quick = process.argv.includes("--quick");
const runs = quick ? 1 : 5;
const outputTokens = quick ? 48 : 96;
const moduleFolder = llamaModuleFolder;
/** One thread: on a machine that does anything else, a second one costs more than it brings. */
const threads = 1;

async function benchmarkModel(): Promise<string> {
  const path = join(tmpdir(), "skein-bench", `random-120M-${shape120M.seed}.Q8_0.gguf`);
  if (!existsSync(path)) {
    await mkdir(dirname(path), { recursive: true });
    await writeRandomGguf(path, shape120M);
  }
  return path;
}

/** Different prompts of the same length, from plain tokens. */
function promptOf(run: number, stream: number): number[] {
  return Array.from({ length: promptTokens }, (_, i) => 300 + ((i * 37 + stream * 101 + run * 53) % 1000));
}

/** Tokens per second once every stream decodes: counted from the last first token to the end. */
async function measureEngine(engine: Engine, run: number, streams: number): Promise<number> {
  const first: number[] = [];
  const times: number[] = [];
  await Promise.all(
    Array.from({ length: streams }, async (_, stream) => {
      let seen = false;
      for await (const event of engine.generate(request(run, stream), AbortSignal.timeout(600_000))) {
        if (event.type !== "tokens") continue;
        const nowMs = performance.now();
        if (!seen) first.push(nowMs);
        seen = true;
        for (let i = 0; i < event.tokenCount; i++) times.push(nowMs);
      }
    }),
  );
  return throughput(first, times);
}

function throughput(first: readonly number[], times: readonly number[]): number {
  const startMs = Math.max(...first);
  return times.filter((ms) => ms > startMs).length / ((Math.max(...times) - startMs) / 1000);
}

function request(run: number, stream: number): GenerateRequest {
  return {
    requestId: `${run}-${stream}`,
    modelId: "bench",
    prompt: { kind: "tokens", tokenIds: promptOf(run, stream) },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    outputTokensMax: outputTokens,
    timeoutMs: 600_000,
  };
}

function askRival(rival: ChildProcess, task: RivalTask): Promise<number> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => reject(new Error("the rival's process ended"));
    rival.once("exit", onExit);
    rival.once("message", ({ first, times }: RivalReply) => {
      rival.off("exit", onExit);
      resolve(throughput(first, times));
    });
    rival.send(task);
  });
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

async function main(): Promise<void> {
  const modelPath = await benchmarkModel();
  const streamsMax = Math.max(...streamCounts);
  const load = { modelPath, moduleFolder, contextTokens, parallel: streamsMax, threads, gpu: false } as const;
  // 1. Both sides load the same file with the same settings and stay loaded.
  const engine = await createLlamaEngine(
    { clock: systemClock, log: silentLogger },
    { ...load, modelId: "bench", name: "bench" },
  );
  const rival = fork(fileURLToPath(new URL("./batching-rival.ts", import.meta.url)), [JSON.stringify(load)], {
    serialization: "advanced",
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  // 2. Interleaved runs, so that a slow minute of the machine hits both.
  const table = new Table({
    style: { head: [], border: [] },
    head: ["streams", "engine tok/s", "alone tok/s", "ratio of medians"],
  });
  const result: Record<string, number | string> = { bench: "batching", rival: rivalName, runs, threads };
  await measureEngine(engine, -1, 1);
  await askRival(rival, { prompts: [promptOf(-1, 0)], outputTokens });
  for (const streams of streamCounts) {
    const ours: number[] = [];
    const alone: number[] = [];
    for (let run = 0; run < runs; run++) {
      ours.push(await measureEngine(engine, run, streams));
      const prompts = Array.from({ length: streams }, (_, stream) => promptOf(run, stream));
      alone.push(await askRival(rival, { prompts, outputTokens }));
    }
    const ratio = median(ours) / median(alone);
    table.push([streams, median(ours).toFixed(1), median(alone).toFixed(1), ratio.toFixed(3)]);
    result[`throughputRatio${streams}`] = Number(ratio.toFixed(4));
    result[`tokensPerSecond${streams}`] = Number(median(ours).toFixed(2));
    result[`rivalTokensPerSecond${streams}`] = Number(median(alone).toFixed(2));
  }
  await engine.close();
  rival.kill();
  // 3. A table for people, one line for programs.
  console.log(`113M parameters, Q8_0, random weights, ${threads} thread; rival: ${rivalName}`);
  console.log(table.toString());
  console.log(JSON.stringify({ ...result, outputTokens, quick: quick ? 1 : 0 }));
}

await main();
