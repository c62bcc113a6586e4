/** The process of `llama-logits.ts`. */
import {
  checkBinding,
  importNodeLlamaCpp,
  type NativeContext,
  type NativeSampler,
} from "../../src/engine/llama/binding.ts";

export interface OracleLoad {
  readonly modelPath: string;
  readonly moduleFolder: string;
  readonly contextTokens: number;
  readonly threads: number;
  readonly cacheType: "F32" | "F16";
}

export type OracleTask =
  | { readonly kind: "logits"; readonly tokenIds: readonly number[] }
  | { readonly kind: "tokenize"; readonly text: string };

export type OracleReply =
  | { readonly kind: "ready" }
  | { readonly kind: "logits"; readonly values: Float32Array }
  | { readonly kind: "tokens"; readonly tokenIds: number[] }
  | { readonly kind: "failed"; readonly reason: string };

/** The inner context's form of `sampleToken` that also returns all logits, as token, logit, token, logit, … */
interface RevealingContext extends NativeContext {
  sampleToken(batchIndex: number, sampler: NativeSampler): Promise<number>;
  sampleToken(
    batchIndex: number,
    sampler: NativeSampler,
    probabilities: false,
    confidence: false,
    logits: true,
  ): Promise<readonly [token: number, unknown, unknown, logits: readonly number[]]>;
}

const sequence = 0;
const batchTokensMax = 512;

async function open(load: OracleLoad): Promise<(task: OracleTask) => Promise<OracleReply>> {
  const nodeLlamaCpp = await importNodeLlamaCpp(load.moduleFolder);
  const llama = await nodeLlamaCpp.getLlama({
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: "error",
    gpu: false,
  });
  const model = await llama.loadModel({ modelPath: load.modelPath, gpuLayers: 0 });
  const inner = await model.createContext({
    contextSize: load.contextTokens,
    sequences: 1,
    batchSize: batchTokensMax,
    threads: load.threads,
    // Its kernels round where the plain ones do not.
    flashAttention: false,
    experimentalKvCacheKeyType: load.cacheType,
    experimentalKvCacheValueType: load.cacheType,
  });
  const context = inner._ctx as RevealingContext;
  checkBinding(context, model, llama);
  const sampler = new llama._bindings.AddonSampler(model._model);
  sampler.applyConfig({ temperature: 0 });

  async function logitsOf(tokenIds: readonly number[]): Promise<Float32Array> {
    const rows: (readonly number[])[] = [];
    for (let start = 0; start < tokenIds.length; start += batchTokensMax) {
      const chunk = Uint32Array.from(tokenIds.slice(start, start + batchTokensMax));
      context.initBatch(chunk.length);
      const indexes = context.addToBatch(
        sequence,
        start,
        chunk,
        chunk.map((_, i) => i),
      );
      await context.decodeBatch();
      for (const index of indexes) {
        const [, , , logits] = await context.sampleToken(index, sampler, false, false, true);
        rows.push(logits);
      }
    }
    context.disposeSequence(sequence);
    const vocabularySize = rows[0]!.length / 2;
    const values = new Float32Array(rows.length * vocabularySize);
    rows.forEach((row, position) => {
      for (let i = 0; i < row.length; i += 2) values[position * vocabularySize + row[i]!] = row[i + 1]!;
    });
    return values;
  }

  return async (task) =>
    task.kind === "logits"
      ? { kind: "logits", values: await logitsOf(task.tokenIds) }
      : { kind: "tokens", tokenIds: [...model._model.tokenize(task.text, true)] };
}

function send(reply: OracleReply): void {
  process.send?.(reply);
}

function fail(error: unknown): void {
  send({ kind: "failed", reason: error instanceof Error ? error.message : String(error) });
}

process.on("disconnect", () => process.exit(0));
try {
  const answer = await open(JSON.parse(process.argv[2] ?? "{}") as OracleLoad);
  process.on("message", (task: OracleTask) => {
    answer(task).then(send, fail);
  });
  send({ kind: "ready" });
} catch (error) {
  fail(error);
}
