/**
 * The exact engine with several streams at once beside llama.cpp with the same weights in Q8_0: tokens that all streams
 * together decode in a second of CPU time and of the clock. The exact side is the whole engine (thread, messages,
 * scheduler, sampler, text), llama.cpp's side the bare loop over its binaries.
 *
 *   npm run bench -- exact-batch [--quick] [--threads 1]
 */
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { type RandomGgufShape, shape120M } from "../scripts/random-gguf.ts";
import { convertFile } from "../src/engine/exact/convert.ts";
import { createExactEngine } from "../src/engine/exact/index.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { llamaModuleFolder } from "./lib/llama-module.ts";
import {
  engineRate,
  median,
  promptOf,
  randomModelFile,
  type Rate,
  rivalName,
  rivalRate,
  startRival,
} from "./lib/streams.ts";

const { values } = parseArgs({
  options: { quick: { type: "boolean" }, threads: { type: "string", default: "1" } },
});
const quick = values.quick ?? false;
const threads = Number(values.threads);
const runs = quick ? 2 : 5;
const outputTokens = quick ? 32 : 96;
const streamCounts = [1, 4, 16] as const;
const contextTokens = 512;
const promptTokens = 16;
/** 127 million parameters. */
const shape: RandomGgufShape = { ...shape120M, layers: 18 };

/** Ratio of medians, and medians of either side. */
function compare(ours: readonly Rate[], rivals: readonly Rate[], key: keyof Rate) {
  const [own, other] = [ours, rivals].map((rates) => median(rates.map((rate) => rate[key])));
  return { own: own!, other: other!, ratio: own! / other! };
}

async function main(): Promise<void> {
  const ggufPath = await randomModelFile("random-127M", shape);
  const modelPath = ggufPath.replace(/\.gguf$/, ".skein");
  if (!existsSync(modelPath)) {
    await convertFile(ggufPath, modelPath, { signal: new AbortController().signal });
  }
  const parallel = Math.max(...streamCounts);
  // 1. Both sides hold the same weights, and stay loaded.
  const engine = await createExactEngine(
    { clock: systemClock, log: silentLogger },
    { modelPath, name: null, parallel, contextTokens, threads },
  );
  const rival = startRival({
    modelPath: ggufPath,
    moduleFolder: llamaModuleFolder,
    contextTokens,
    parallel,
    threads,
    gpu: false,
  });
  // 2. Interleaved runs, so that a slow minute of the machine hits both; the first round warms up.
  const figures: Record<string, number> = {};
  const table = new Table({
    style: { head: [], border: [] },
    head: ["streams", "tok/s of", "exact", "llama.cpp Q8_0", "ratio of medians"],
  });
  for (const streams of streamCounts) {
    const ours: Rate[] = [];
    const rivals: Rate[] = [];
    for (let run = -1; run < runs; run++) {
      const prompts = Array.from({ length: streams }, (_, i) => promptOf(run, i, promptTokens));
      const own = await engineRate(engine, { prompts, outputTokens });
      const other = await rivalRate(rival, { prompts, outputTokens });
      if (run < 0) continue;
      ours.push(own);
      rivals.push(other);
    }
    for (const [key, name, suffix] of [
      ["cpu", "CPU time", ""],
      ["wall", "the clock", "Wall"],
    ] as const) {
      const { own, other, ratio } = compare(ours, rivals, key);
      table.push([streams, name, own.toFixed(1), other.toFixed(1), ratio.toFixed(3)]);
      figures[`batch${streams}${suffix}Ratio`] = Number(ratio.toFixed(3));
      figures[`batch${streams}${suffix}TokensPerSecond`] = Number(own.toFixed(1));
    }
    console.error(`${streams} streams: done`);
  }
  await engine.close();
  rival.kill();
  // 3. A table for people, one line for programs.
  console.log(`127M parameters, random weights, ${threads} thread; rival: ${rivalName}`);
  console.log(table.toString());
  console.log(JSON.stringify({ bench: "exact-batch", runs, threads, outputTokens, ...figures }));
}

await main();
