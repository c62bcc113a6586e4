/** One side of `exact-speed.ts`: runs a prompt and then single tokens, and says what CPU time each took. */
import { loadModel } from "../src/engine/exact/load.ts";
import { importNodeLlamaCpp } from "../src/engine/llama/binding.ts";
import { CommitmentRecorder } from "../src/exact/commitment/recorder.ts";
import { sha256 } from "../src/engine/sha256.ts";
import { type Mark, markNow } from "./lib/mark.ts";

export interface SpeedSetup {
  readonly side: "exact" | "llama";
  readonly modelPath: string;
  readonly moduleFolder: string;
  readonly contextTokens: number;
}

/** The first message: the model can be used. */
export interface SpeedLoaded {
  /** By the clock, from opening the file on. */
  readonly loadMs: number;
  readonly loadCpuMs: number;
}

export interface SpeedTask {
  readonly prompt: readonly number[];
  readonly outputTokens: number;
  /** Whether every second token of the answer is committed to (exact only). */
  readonly commits: boolean;
}

/** CPU time of the whole process in milliseconds. */
export interface SpeedReply {
  readonly prefillMs: number;
  readonly decodeMs: number;
  /** Of each token of the answer (exact only); with commitments, those with odd indexes are committed to. */
  readonly tokenMs: readonly number[];
  readonly residentBytes: number;
}

type Run = (task: SpeedTask) => Promise<SpeedReply>;

/** All threads of the process together; on one thread of an idle machine this is what a clock shows. */
function cpuMs(): number {
  return markNow().cpuMs;
}

async function prepareExact({ modelPath, contextTokens }: SpeedSetup): Promise<[Run, SpeedLoaded]> {
  const start = markNow();
  const { executor } = await loadModel(
    { modelPath, modelId: null, parallel: 1, contextTokens, threads: 1 },
    () => undefined,
  );
  const loaded = loadedSince(start);
  const run: Run = async ({ prompt, outputTokens, commits }) => {
    const sequence = executor.newSequence();
    const recorder = new CommitmentRecorder(sha256);
    const step = (tokens: readonly number[], isCommitted: boolean): Int32Array => {
      const rows = tokens.map((input, i) => ({ sequence, input, wantsLogits: i === tokens.length - 1 }));
      const outputs = executor.step(rows, isCommitted ? recorder.listener() : undefined);
      if (isCommitted) recorder.close(tokens);
      return outputs.at(-1)!;
    };
    const begunMs = cpuMs();
    let logits: Int32Array = new Int32Array();
    for (let at = 0; at < prompt.length; at += executor.rowsMax) {
      logits = step(prompt.slice(at, at + executor.rowsMax), false);
    }
    const promptedMs = cpuMs();
    const tokenMs: number[] = [];
    for (let i = 0; i < outputTokens; i++) {
      const isCommitted = commits && i % 2 === 1;
      const beforeMs = cpuMs();
      logits = step([largest(logits)], isCommitted);
      tokenMs.push(cpuMs() - beforeMs);
    }
    const endMs = cpuMs();
    sequence.free();
    return reply(promptedMs - begunMs, endMs - promptedMs, tokenMs);
  };
  return [run, loaded];
}

function largest(logits: Int32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

async function prepareLlama({
  modelPath,
  moduleFolder,
  contextTokens,
}: SpeedSetup): Promise<[Run, SpeedLoaded]> {
  const nodeLlamaCpp = await importNodeLlamaCpp(moduleFolder);
  const llama = await nodeLlamaCpp.getLlama({
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: "error",
    gpu: false,
  });
  const start = markNow();
  const model = await llama.loadModel({ modelPath });
  const { _ctx: context } = await model.createContext({
    contextSize: contextTokens,
    sequences: 1,
    batchSize: 512,
    threads: 1,
  });
  const loaded = loadedSince(start);
  const sampler = new llama._bindings.AddonSampler(model._model);
  sampler.applyConfig({ temperature: 0 });
  const run: Run = async ({ prompt, outputTokens }) => {
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
    return reply(promptedMs - startMs, endMs - promptedMs, []);
  };
  return [run, loaded];
}

function loadedSince(start: Mark): SpeedLoaded {
  const end = markNow();
  return { loadMs: end.wallMs - start.wallMs, loadCpuMs: end.cpuMs - start.cpuMs };
}

function reply(prefillMs: number, decodeMs: number, tokenMs: readonly number[]): SpeedReply {
  return { prefillMs, decodeMs, tokenMs, residentBytes: process.memoryUsage().rss };
}

const setup = JSON.parse(process.argv[2] ?? "{}") as SpeedSetup;
const [run, loaded] = await (setup.side === "exact" ? prepareExact(setup) : prepareLlama(setup));
process.on("message", (task: SpeedTask) => {
  void run(task).then((result) => process.send?.(result));
});
process.on("disconnect", () => process.exit(0));
process.send?.(loaded);
