/** One side of `exact-speed.ts`: runs a prompt and then single tokens, and says what CPU time each took. */
import { readFileSync } from "node:fs";
import { importNodeLlamaCpp } from "../src/engine/llama/binding.ts";
import { CommitmentRecorder } from "../src/exact/commitment/recorder.ts";
import { convertModel } from "../src/exact/import/convert.ts";
import { importGguf } from "../src/exact/import/gguf.ts";
import { exactShapeOf } from "../src/exact/import/shape.ts";
import type { Quantization } from "../src/exact/model/model.ts";
import { createWasmExecutor } from "../src/exact/wasm/executor.ts";
import { sha256 } from "../src/engine/sha256.ts";
import { memorySource } from "../src/formats/byte-source.ts";

export interface SpeedSetup {
  readonly side: "exact" | "llama";
  readonly modelPath: string;
  readonly moduleFolder: string;
  readonly contextTokens: number;
  /** Of the exact side. */
  readonly quantization: Quantization;
}

export interface SpeedTask {
  readonly prompt: readonly number[];
  readonly outputTokens: number;
  /** Whether commitments are made (exact only). */
  readonly commits: boolean;
}

/** CPU time of the whole process in milliseconds. */
export interface SpeedReply {
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly residentBytes: number;
}

type Run = (task: SpeedTask) => Promise<SpeedReply>;

/** All threads of the process together; on one thread of an idle machine this is what a clock shows. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function prepareExact({ modelPath, contextTokens, quantization }: SpeedSetup): Promise<Run> {
  const signal = new AbortController().signal;
  const { source } = await importGguf([memorySource(modelPath, readFileSync(modelPath))], signal);
  const shape = exactShapeOf(source.shape);
  const { sink, executor } = createWasmExecutor(shape, { contextTokensMax: contextTokens });
  await convertModel(source, shape, sink, { signal, quantization });
  const runner = executor();
  return async ({ prompt, outputTokens, commits }) => {
    const sequence = runner.newSequence();
    const recorder = new CommitmentRecorder(sha256);
    const step = (tokens: readonly number[]): Int32Array => {
      const rows = tokens.map((input, i) => ({ sequence, input, wantsLogits: i === tokens.length - 1 }));
      const outputs = runner.step(rows, commits ? recorder.listener() : undefined);
      if (commits) recorder.close(tokens, outputs);
      return outputs.at(-1)!;
    };
    const startMs = cpuMs();
    let logits: Int32Array = new Int32Array();
    for (let at = 0; at < prompt.length; at += runner.rowsMax) {
      logits = step(prompt.slice(at, at + runner.rowsMax));
    }
    const promptedMs = cpuMs();
    for (let i = 0; i < outputTokens; i++) logits = step([largest(logits)]);
    const endMs = cpuMs();
    sequence.free();
    return reply(promptedMs - startMs, endMs - promptedMs);
  };
}

function largest(logits: Int32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

async function prepareLlama({ modelPath, moduleFolder, contextTokens }: SpeedSetup): Promise<Run> {
  const nodeLlamaCpp = await importNodeLlamaCpp(moduleFolder);
  const llama = await nodeLlamaCpp.getLlama({
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: "error",
    gpu: false,
  });
  const model = await llama.loadModel({ modelPath });
  const { _ctx: context } = await model.createContext({
    contextSize: contextTokens,
    sequences: 1,
    batchSize: 512,
    threads: 1,
  });
  const sampler = new llama._bindings.AddonSampler(model._model);
  sampler.applyConfig({ temperature: 0 });
  return async ({ prompt, outputTokens }) => {
    let position = 0;
    const step = async (tokens: readonly number[]): Promise<number> => {
      context.initBatch(tokens.length);
      const chunk = Uint32Array.from(tokens);
      const [index] = context.addToBatch(0, position, chunk, Uint32Array.of(tokens.length - 1));
      await context.decodeBatch();
      position += tokens.length;
      return context.sampleToken(index!, sampler);
    };
    const startMs = cpuMs();
    let token = 0;
    for (let at = 0; at < prompt.length; at += 512) token = await step(prompt.slice(at, at + 512));
    const promptedMs = cpuMs();
    for (let i = 0; i < outputTokens; i++) token = await step([token]);
    const endMs = cpuMs();
    context.disposeSequence(0);
    return reply(promptedMs - startMs, endMs - promptedMs);
  };
}

function reply(prefillMs: number, decodeMs: number): SpeedReply {
  return { prefillMs, decodeMs, residentBytes: process.memoryUsage().rss };
}

const setup = JSON.parse(process.argv[2] ?? "{}") as SpeedSetup;
const run = await (setup.side === "exact" ? prepareExact(setup) : prepareLlama(setup));
process.on("message", (task: SpeedTask) => {
  void run(task).then((result) => process.send?.(result));
});
process.on("disconnect", () => process.exit(0));
process.send?.("ready");
