/** The process of `llama-logits.ts`. */
import {
  checkBinding,
  importNodeLlamaCpp,
  type Llama,
  type LlamaModel,
  type NativeSampler,
  type RevealingContext,
} from "../../src/engine/llama/binding.ts";

interface LoadTask {
  readonly kind: "load";
  readonly model: number;
  readonly modelPath: string;
  readonly contextTokens: number;
  readonly threads: number;
  readonly cacheType: "F32" | "F16";
}

export type LlamaTask =
  | LoadTask
  | { readonly kind: "logits"; readonly model: number; readonly tokenIds: readonly number[] }
  | { readonly kind: "tokenize"; readonly model: number; readonly text: string }
  | { readonly kind: "close"; readonly model: number };

export type LlamaReply =
  | { readonly kind: "ready" }
  | { readonly kind: "logits"; readonly values: Float32Array }
  | { readonly kind: "tokens"; readonly tokenIds: number[] }
  | { readonly kind: "failed"; readonly reason: string };

export type ReplyKind = LlamaReply["kind"];
export type ReplyOf<K extends ReplyKind> = Extract<LlamaReply, { kind: K }>;

interface Disposable {
  dispose(): Promise<void>;
}

interface Loaded {
  readonly contextTokens: number;
  readonly model: LlamaModel;
  readonly context: RevealingContext;
  readonly sampler: NativeSampler;
  close(): Promise<void>;
}

const sequence = 0;
const batchTokensMax = 512;

async function load(llama: Llama, task: LoadTask): Promise<Loaded> {
  const model = await llama.loadModel({ modelPath: task.modelPath, gpuLayers: 0 });
  const outer = await model.createContext({
    contextSize: task.contextTokens,
    sequences: 1,
    batchSize: batchTokensMax,
    threads: task.threads,
    // Its kernels round where the plain ones do not.
    flashAttention: false,
    experimentalKvCacheKeyType: task.cacheType,
    experimentalKvCacheValueType: task.cacheType,
  });
  const context = outer._ctx;
  checkBinding(context, model, llama);
  const sampler = new llama._bindings.AddonSampler(model._model);
  sampler.applyConfig({ temperature: 0 });
  return {
    contextTokens: task.contextTokens,
    model,
    context,
    sampler,
    close: async () => {
      sampler.dispose();
      // A model waits for its contexts.
      await (outer as typeof outer & Disposable).dispose();
      await (model as LlamaModel & Disposable).dispose();
    },
  };
}

async function logitsOf(
  { contextTokens, context, sampler }: Loaded,
  tokenIds: readonly number[],
): Promise<Float32Array> {
  // llama.cpp would end the process.
  if (tokenIds.length > contextTokens) throw new RangeError(`the context has ${contextTokens} tokens`);
  const step = Math.min(batchTokensMax, contextTokens);
  let values = new Float32Array();
  for (let start = 0; start < tokenIds.length; start += step) {
    const chunk = Uint32Array.from(tokenIds.slice(start, start + step));
    const everyPosition = chunk.map((_, i) => i);
    context.initBatch(chunk.length);
    const indexes = context.addToBatch(sequence, start, chunk, everyPosition);
    await context.decodeBatch();
    for (const [i, index] of indexes.entries()) {
      const [, , , logits] = await context.sampleToken(index, sampler, false, false, true);
      const vocabularySize = logits.length / 2;
      if (values.length === 0) values = new Float32Array(tokenIds.length * vocabularySize);
      const row = (start + i) * vocabularySize;
      for (let at = 0; at < logits.length; at += 2) values[row + logits[at]!] = logits[at + 1]!;
    }
  }
  context.disposeSequence(sequence);
  return values;
}

async function serve(moduleFolder: string): Promise<(task: LlamaTask) => Promise<LlamaReply>> {
  const nodeLlamaCpp = await importNodeLlamaCpp(moduleFolder);
  const llama = await nodeLlamaCpp.getLlama({
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: "error",
    gpu: false,
  });
  const models = new Map<number, Loaded>();
  return async (task) => {
    if (task.kind === "load") {
      models.set(task.model, await load(llama, task));
      return { kind: "ready" };
    }
    const loaded = models.get(task.model);
    if (loaded === undefined) throw new Error(`model ${task.model} is not loaded`);
    switch (task.kind) {
      case "logits":
        return { kind: "logits", values: await logitsOf(loaded, task.tokenIds) };
      case "tokenize":
        return { kind: "tokens", tokenIds: [...loaded.model._model.tokenize(task.text, true)] };
      case "close":
        models.delete(task.model);
        await loaded.close();
        return { kind: "ready" };
    }
  };
}

function send(reply: LlamaReply): void {
  process.send?.(reply);
}

function fail(error: unknown): void {
  send({ kind: "failed", reason: error instanceof Error ? error.message : String(error) });
}

process.on("disconnect", () => process.exit(0));
try {
  const answer = await serve(process.argv[2] ?? "");
  process.on("message", (task: LlamaTask) => {
    answer(task).then(send, fail);
  });
  send({ kind: "ready" });
} catch (error) {
  fail(error);
}
