/** What a page or a worker can be asked to do; the files it needs lie beside the modules. */
import { portableSha256 } from "../../../src/exact/commitment/portable-sha256.ts";
import { writeContainer } from "../../../src/exact/container/write.ts";
import { compareModels } from "../../../src/exact/equality.suite.ts";
import { importGguf } from "../../../src/exact/import/gguf.ts";
import { giveModel } from "../../../src/exact/random-model.suite.ts";
import { createWasmExecutor } from "../../../src/exact/wasm/executor.ts";
import { memorySource } from "../../../src/formats/byte-source.ts";
import { toHex } from "../../../src/util/bytes.ts";
import { type Answers, answersOf, type AnswersTask } from "./answers.ts";
import { confirm, type Confirmed } from "./confirm.ts";
import type { ReceiptDocumentView } from "../../../src/receipt/document.ts";
import { startThreads } from "./threads.ts";
import { compareOnGpu, type GpuComparison } from "./gpu.ts";
import { type VectorFile, wrongVectors } from "./vectors.ts";

export interface Tasks {
  /** Answers of the model at `/model.skein`. */
  answers: { readonly asks: AnswersTask; readonly gives: Answers };
  /** The same by several threads in one memory; only in a worker, for pages must not wait. */
  team: { readonly asks: AnswersTask & { readonly threads: number }; readonly gives: Answers };
  /** `/model.gguf` converted: the identity, and the SHA-256 of the file that it becomes. */
  convert: { readonly asks: { readonly name: string }; readonly gives: Converted };
  /** Conformance vectors; gives the names of those that come out differently. */
  vectors: { readonly asks: readonly VectorFile[]; readonly gives: readonly string[] };
  /** Random models through the kernels and through the reference. */
  random: {
    readonly asks: { readonly seed: number; readonly tokens: number };
    readonly gives: { readonly tokens: number; readonly differingBits: number };
  };
  /** A receipt of the model at `/model.skein`: what is wrong with it, and what computing again finds. */
  receipt: { readonly asks: ReceiptDocumentView; readonly gives: Confirmed };
  /** Random matrices, and those of the model at `/model.skein`, on the GPU. Null where there is none. */
  gpu: { readonly asks: { readonly seed: number }; readonly gives: GpuComparison | null };
}

export interface Converted {
  readonly modelId: string;
  readonly fileHash: string;
}

type Does = { readonly [Name in keyof Tasks]: (asked: Tasks[Name]["asks"]) => Promise<Tasks[Name]["gives"]> };

export const does: Does = {
  answers: async (asked) => answersOf(await bytesAt("/model.skein"), portableSha256, asked),
  team: async (asked) => {
    const threads = await startThreads(asked.threads);
    try {
      return await answersOf(await bytesAt("/model.skein"), portableSha256, asked, { threads });
    } finally {
      threads.end();
    }
  },
  convert: async ({ name }) => convert(name, await bytesAt("/model.gguf")),
  vectors: async (files) => wrongVectors(files, await bytesAt("/model.skein")),
  random: ({ seed, tokens }) =>
    compareModels(seed, tokens, async (model, options) => {
      const making = createWasmExecutor(model.shape, { ...options, range: model.range });
      await giveModel(model, making.sink);
      return making.executor();
    }),
  receipt: async (document) => confirm(document, await bytesAt("/model.skein")),
  gpu: async ({ seed }) => compareOnGpu(seed, await bytesAt("/model.skein")),
};

async function bytesAt(path: string): Promise<Uint8Array> {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function convert(name: string, gguf: Uint8Array): Promise<Converted> {
  const { signal } = new AbortController();
  const { source, tokenizer } = await importGguf([memorySource("model.gguf", gguf)], signal);
  let file = new Uint8Array(2 * gguf.length);
  const target = {
    write: async (at: number, bytes: Uint8Array) => file.set(bytes, at),
    finish: async (size: number) => {
      file = file.subarray(0, size);
    },
  };
  const { modelId } = await writeContainer(source, { name, tokenizer }, target, portableSha256, { signal });
  return { modelId, fileHash: toHex(portableSha256(file)) };
}
