/** The demo model's trace: from its GGUF file through conversion to tokens, so that all of it is pinned. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { memorySource } from "../../formats/byte-source.ts";
import { openContainer, readContainer } from "../container/container.ts";
import { sha256 } from "../container/fixture.suite.ts";
import { type ByteTarget, writeContainer } from "../container/write.ts";
import type { Executor } from "../executor.ts";
import { importGguf } from "../import/gguf.ts";
import { collectModel, type ModelSink } from "../model/sink.ts";
import { createReferenceExecutor } from "../reference/executor.ts";
import { createTokenizer } from "../tokenizer/tokenizer.ts";
import { createWasmExecutor } from "../wasm/executor.ts";
import { runTrace, type TraceRun, type TraceSampler } from "./traces.suite.ts";

const repository = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const file = "models/tiny.Q8_0.gguf";
const positions = 64;
const never = new AbortController().signal;

/** Temperature 0.8. */
const sampler: TraceSampler = {
  inverseTemperature: 81_920,
  topK: 0,
  topP: 62_259,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  bias: [],
  key: [7, 0],
};

/** Both executors of the demo model, and how to read its tokens. */
export interface DemoModel {
  readonly modelId: string;
  /** Where the file is in this repository. */
  readonly file: string;
  readonly fileBytes: Uint8Array;
  readonly wasm: Executor;
  readonly reference: Executor;
  readonly prompt: readonly number[];
  textOf(tokens: readonly number[]): string;
}

export async function openDemo(): Promise<DemoModel> {
  const fileBytes = readFileSync(join(repository, file));
  const { source, tokenizer } = await importGguf([memorySource(file, fileBytes)], never);
  const target = memoryTarget();
  const { modelId } = await writeContainer(source, { name: "tiny", tokenizer }, target, sha256, {
    signal: never,
  });
  const container = memorySource("tiny.skein", target.bytes());
  const info = await openContainer(container, sha256, never);
  const { shape } = info.manifest;
  const [making, collected] = [createWasmExecutor(shape), collectModel(shape)];
  const both: ModelSink = {
    norm: async (...parts) => {
      await making.sink.norm(...parts);
      await collected.norm(...parts);
    },
    matrix: async (...parts) => {
      await making.sink.matrix(...parts);
      await collected.matrix(...parts);
    },
  };
  await readContainer(container, info, sha256, both, { signal: never });
  const reader = createTokenizer(info.tokenizer);
  const prompt = reader.encodePieces([
    { text: "<|im_start|>user\n", special: true },
    { text: "Tell me a story about a goose.", special: false },
    { text: "<|im_end|>\n<|im_start|>assistant\n", special: true },
  ]);
  const reference = createReferenceExecutor(collected.model());
  return {
    modelId,
    file,
    fileBytes,
    wasm: making.executor(),
    reference,
    prompt,
    textOf: (tokens) => reader.decode(tokens),
  };
}

export function runDemo(executor: Executor, { prompt }: DemoModel): TraceRun {
  return runTrace(executor, { prompt, positions, sampler, hasLeaves: false });
}

function memoryTarget(): ByteTarget & { bytes(): Uint8Array } {
  let bytes = new Uint8Array(1 << 23);
  return {
    async write(at, part) {
      if (at + part.length > bytes.length) {
        const larger = new Uint8Array(2 * (at + part.length));
        larger.set(bytes);
        bytes = larger;
      }
      bytes.set(part, at);
    },
    async finish(size) {
      bytes = bytes.subarray(0, size);
    },
    bytes: () => bytes,
  };
}
