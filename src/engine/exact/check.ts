/** Whether this machine computes a model as the specification says: WebAssembly against the reference. */
import { type Comparison, compareExecutors } from "../../exact/compare.ts";
import { openContainer, readContainer } from "../../exact/container/container.ts";
import type { ExactShape } from "../../exact/model/model.ts";
import { collectModel, type ModelSink } from "../../exact/model/sink.ts";
import { createReferenceExecutor } from "../../exact/reference/executor.ts";
import { samplerParameters } from "../../exact/sampler/parameters.ts";
import { createTokenizer, type ExactTokenizer } from "../../exact/tokenizer/tokenizer.ts";
import { createWasmExecutor, type WasmExecutor } from "../../exact/wasm/executor.ts";
import { greedySampling } from "../../protocol/generate.ts";
import { openFileSource } from "../file-source.ts";
import { sha256 } from "../sha256.ts";
import { sharedWork, threadsReady } from "./compute-threads.ts";
import { machineBytes, planMemory, weightBytes } from "./memory-plan.ts";

/** What sequences begin with: words, numbers and code, other scripts and what is no word at all. */
const beginnings = [
  "Once upon a time there was a machine that counted every",
  "for (let i = 0; i < 365; i++) sum += 12.5 * i; // 3 + 83 =",
  "Żółć, 東京の天気 и 🦊🧶: \u0000\t\r\n\n   ½ ≠ ∞",
];
/** Positions of each sequence when no number is asked for: enough for several steps, the last ones drawn. */
const positionsDefault = 16;
/** Of them so many are the prompt's at most. */
const promptShare = 0.5;

const memoryHint = "Use fewer --tokens, a smaller model, or convert it with --bits 4.";

export interface CheckOptions {
  readonly signal: AbortSignal;
  /** Positions in all; null: a few, and no more than `budgetMs` allow. */
  readonly positions: number | null;
  readonly budgetMs: number;
  /** That share WebAssembly's work. */
  readonly threads: number;
  readonly onRead?: (readBytes: number, totalBytes: number) => void;
  readonly onCompared?: (comparison: Comparison) => void;
}

export interface CheckedModel extends Comparison {
  readonly modelId: string;
  readonly shape: ExactShape;
}

/**
 * Checks the hashes of a converted model, then compares.
 * @throws SkeinError `invalid_model_file`, `engine_unavailable` (no memory), `cancelled`
 */
export async function checkModel(path: string, options: CheckOptions): Promise<CheckedModel> {
  const source = await openFileSource(path);
  let executor: WasmExecutor | null = null;
  try {
    const info = await openContainer(source, sha256, options.signal);
    const { shape, quantization } = info.manifest;
    const count = beginnings.length;
    const positions = Math.min(
      shape.contextTokensMax,
      options.positions === null ? positionsDefault : Math.ceil(options.positions / count),
    );
    // 1. The weights, to both; the reference keeps its own beside WebAssembly's.
    const room = machineBytes() - weightBytes(shape, quantization);
    planMemory(shape, quantization, { parallel: count, contextTokens: positions, hint: memoryHint }, room);
    const collected = collectModel(shape);
    const wasm = createWasmExecutor(shape, {
      contextTokensMax: positions,
      ...sharedWork(options.threads, () => undefined),
    });
    await readContainer(source, info, sha256, both(collected, wasm.sink), {
      signal: options.signal,
      ...(options.onRead === undefined ? {} : { onProgress: options.onRead }),
    });
    // 2. The same sequences in both.
    const tokenizer = createTokenizer(info.tokenizer);
    executor = wasm.executor();
    await threadsReady(executor);
    const comparing = compareExecutors(sha256, executor, createReferenceExecutor(collected.model()), {
      prompts: beginnings.map((text) => promptOf(tokenizer, text, positions)),
      positions,
      sampler: samplerParameters({ ...greedySampling, temperature: 1, seed: 1 }),
    });
    const endMs = performance.now() + options.budgetMs;
    let last: Comparison = { positions: 0, total: positions * count, difference: null };
    for (const comparison of comparing) {
      last = comparison;
      options.onCompared?.(comparison);
      if (options.positions === null && performance.now() > endMs) break;
    }
    return { ...last, modelId: info.modelId, shape };
  } finally {
    executor?.close();
    await source.close();
  }
}

/** At least one token, also of vocabularies that lack these characters. */
function promptOf(tokenizer: ExactTokenizer, text: string, positions: number): number[] {
  const tokens = tokenizer.encode(text, { parseSpecial: false, addSpecial: true });
  return [...tokens, 0].slice(0, Math.max(1, Math.floor(promptShare * positions)));
}

function both(a: ModelSink, b: ModelSink): ModelSink {
  return {
    async norm(tensor, weights) {
      await a.norm(tensor, weights);
      await b.norm(tensor, weights);
    },
    async matrix(tensor, matrix) {
      await a.matrix(tensor, matrix);
      await b.matrix(tensor, matrix);
    },
  };
}
