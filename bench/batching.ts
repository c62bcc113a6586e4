/**
 * What the engine around llama.cpp costs: decode throughput through the whole `llama` engine (child
 * process, messages, scheduler, text) against a bare loop over the same binaries, in the same run.
 *
 *   npm run bench -- batching [--quick]
 */
import Table from "cli-table3";
import { shape120M } from "../scripts/random-gguf.ts";
import { createLlamaEngine } from "../src/engine/llama/index.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { llamaModuleFolder } from "./lib/llama-module.ts";
import {
  engineRate,
  median,
  promptOf,
  randomModelFile,
  rivalName,
  rivalRate,
  startRival,
} from "./lib/streams.ts";

const streamCounts = [1, 4, 16] as const;
const contextTokens = 512;
const promptTokens = 16;

const quick = process.argv.includes("--quick");
const runs = quick ? 1 : 5;
const outputTokens = quick ? 48 : 96;
/** One thread: on a machine that does anything else, a second one costs more than it brings. */
const threads = 1;

async function main(): Promise<void> {
  const modelPath = await randomModelFile("random-120M", shape120M);
  const streamsMax = Math.max(...streamCounts);
  const load = {
    modelPath,
    moduleFolder: llamaModuleFolder,
    contextTokens,
    parallel: streamsMax,
    threads,
    gpu: false,
  } as const;
  // 1. Both sides load the same file with the same settings and stay loaded.
  const engine = await createLlamaEngine(
    { clock: systemClock, log: silentLogger },
    { ...load, modelId: "bench", name: "bench" },
  );
  const rival = startRival(load);
  // 2. Interleaved runs, so that a slow minute of the machine hits both.
  const table = new Table({
    style: { head: [], border: [] },
    head: ["streams", "engine tok/s", "alone tok/s", "ratio of medians"],
  });
  const result: Record<string, number | string> = { bench: "batching", rival: rivalName, runs, threads };
  const taskOf = (run: number, streams: number) => ({
    prompts: Array.from({ length: streams }, (_, stream) => promptOf(run, stream, promptTokens)),
    outputTokens,
  });
  await engineRate(engine, taskOf(-1, 1));
  await rivalRate(rival, taskOf(-1, 1));
  for (const streams of streamCounts) {
    const ours: number[] = [];
    const alone: number[] = [];
    for (let run = 0; run < runs; run++) {
      ours.push((await engineRate(engine, taskOf(run, streams))).wall);
      alone.push((await rivalRate(rival, taskOf(run, streams))).wall);
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
