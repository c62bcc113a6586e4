/** Answers of a model with all their commitments, by the same code in Node and in a browser. */
import type { Sha256 } from "../../../src/exact/commitment/commitment.ts";
import { CommitmentRecorder } from "../../../src/exact/commitment/recorder.ts";
import { openContainer, readContainer } from "../../../src/exact/container/container.ts";
import type { Executor } from "../../../src/exact/executor.ts";
import type { SamplerParameters } from "../../../src/exact/sampler/sampler.ts";
import { sampleToken } from "../../../src/exact/sampler/sampler.ts";
import { createTokenizer, type ExactTokenizer } from "../../../src/exact/tokenizer/tokenizer.ts";
import { createWasmExecutor, type WasmExecutorOptions } from "../../../src/exact/wasm/executor.ts";
import { memorySource } from "../../../src/formats/byte-source.ts";
import { toHex } from "../../../src/util/bytes.ts";

export interface AnswersTask {
  readonly prompt: string;
  /** Of all answers together: another one begins, with the next seed, until there are so many. */
  readonly tokens: number;
  readonly commits: boolean;
}

export interface Answer {
  readonly text: string;
  readonly tokens: readonly number[];
  /** Chain head behind each position; none without commitments. */
  readonly chain: readonly string[];
  readonly execRoot: string;
}

export interface Answers {
  readonly modelId: string;
  readonly answers: readonly Answer[];
  readonly loadMs: number;
  readonly generateMs: number;
}

export interface Loaded {
  readonly modelId: string;
  readonly executor: Executor;
  readonly tokenizer: ExactTokenizer;
}

/** Temperature 1 and nothing else: every token is a matter of chance. */
export const warm: Omit<SamplerParameters, "key"> = {
  inverseTemperature: 2 ** 16,
  topK: 0,
  topP: 2 ** 16,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  bias: new Map(),
};

export async function load(
  container: Uint8Array,
  sha256: Sha256,
  options: WasmExecutorOptions = {},
): Promise<Loaded> {
  const { signal } = new AbortController();
  const source = memorySource("model.skein", container);
  const info = await openContainer(source, sha256, signal);
  const making = createWasmExecutor(info.manifest.shape, options);
  await readContainer(source, info, sha256, making.sink, { signal });
  return {
    modelId: info.modelId,
    executor: making.executor(),
    tokenizer: createTokenizer(info.tokenizer),
  };
}

export async function answersOf(
  container: Uint8Array,
  sha256: Sha256,
  task: AnswersTask,
  options: WasmExecutorOptions = {},
): Promise<Answers> {
  const startMs = performance.now();
  const loaded = await load(container, sha256, options);
  const loadedMs = performance.now();
  const answers: Answer[] = [];
  for (let left = task.tokens; left > 0; left -= answers.at(-1)!.tokens.length) {
    answers.push(answerOf(loaded, sha256, task, answers.length, left));
  }
  const generateMs = performance.now() - loadedMs;
  return { modelId: loaded.modelId, answers, loadMs: loadedMs - startMs, generateMs };
}

function answerOf(
  { executor, tokenizer }: Loaded,
  sha256: Sha256,
  { prompt, commits }: AnswersTask,
  seed: number,
  tokensMax: number,
): Answer {
  const recorder = commits ? new CommitmentRecorder(sha256) : null;
  const chain: string[] = [];
  const sequence = executor.newSequence();
  const step = (inputs: readonly number[]): Int32Array => {
    const rows = inputs.map((input, i) => ({ sequence, input, wantsLogits: i === inputs.length - 1 }));
    const outputs = executor.step(rows, recorder?.listener());
    recorder?.close(inputs);
    if (recorder !== null) chain.push(toHex(recorder.chain));
    return outputs.at(-1)!;
  };
  const promptTokens = tokenizer.encode(prompt, { parseSpecial: false, addSpecial: true });
  const room = Math.min(tokensMax, executor.contextTokensMax - promptTokens.length);
  const counts = new Map<number, number>();
  const tokens: number[] = [];
  for (let logits = step(promptTokens); ;) {
    const token = sampleToken(logits, { ...warm, key: [seed, 0] }, counts, tokens.length);
    tokens.push(token);
    counts.set(token, (counts.get(token) ?? 0) + 1);
    if (tokenizer.isEndOfGeneration(token) || tokens.length === room) break;
    logits = step([token]);
  }
  sequence.free();
  const execRoot = recorder === null ? "" : toHex(recorder.execRoot());
  return { text: tokenizer.decode(tokens), tokens, chain, execRoot };
}
