/** The rival of `batching.ts` and `exact-batch.ts`: the bare loop over node-llama-cpp's inner context, and nothing around it. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Llama } from "../src/engine/llama/binding.ts";
import type { LlamaLoadOptions } from "../src/engine/llama/messages.ts";
import { type Mark, markNow } from "./lib/mark.ts";

export interface RivalTask {
  readonly prompts: readonly (readonly number[])[];
  readonly outputTokens: number;
}

/** When each stream's first token came, and every token. */
export interface RivalReply {
  readonly first: readonly Mark[];
  readonly tokens: readonly Mark[];
}

/** The same step size as the engine's, so that prompts are read alike. */
const batchTokensMax = 512;

async function serve(options: LlamaLoadOptions): Promise<void> {
  const entry = pathToFileURL(join(options.moduleFolder, "dist", "index.js")).href;
  const { getLlama } = (await import(entry)) as { getLlama: (options: object) => Promise<Llama> };
  const llama = await getLlama({
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: "error",
    gpu: false,
  });
  const model = await llama.loadModel({ modelPath: options.modelPath });
  const { _ctx: context } = await model.createContext({
    contextSize: options.contextTokens,
    sequences: options.parallel,
    batchSize: batchTokensMax,
    threads: options.threads,
  });

  async function generate({ prompts, outputTokens }: RivalTask): Promise<RivalReply> {
    const samplers = prompts.map(() => {
      const sampler = new llama._bindings.AddonSampler(model._model);
      sampler.applyConfig({ temperature: 0 });
      return sampler;
    });
    const first: Mark[] = [];
    const marks: Mark[] = [];
    let chunks = prompts.map((tokens) => Uint32Array.from(tokens));
    let positions = prompts.map(() => 0);
    for (let step = 0; step < outputTokens; step++) {
      context.initBatch(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
      const indexes = chunks.map(
        (chunk, i) => context.addToBatch(i, positions[i]!, chunk, Uint32Array.of(chunk.length - 1))[0]!,
      );
      await context.decodeBatch();
      const tokens = await Promise.all(indexes.map((index, i) => context.sampleToken(index, samplers[i]!)));
      positions = positions.map((position, i) => position + chunks[i]!.length);
      chunks = tokens.map((token) => Uint32Array.of(token));
      const mark = markNow();
      if (step === 0) first.push(...prompts.map(() => mark));
      marks.push(...prompts.map(() => mark));
    }
    prompts.forEach((_, i) => context.disposeSequence(i));
    for (const sampler of samplers) sampler.dispose();
    return { first, tokens: marks };
  }

  process.on("message", (task: RivalTask) => {
    void generate(task).then((reply) => process.send?.(reply));
  });
}

process.on("disconnect", () => process.exit(0));
await serve(JSON.parse(process.argv[2] ?? "{}") as LlamaLoadOptions);
