/** The demo models in integers, whole and spoilt: for providers that cheat with them. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { convertFile } from "../../src/engine/exact/convert.ts";
import { type LoadedModel, textOf } from "../../src/engine/exact/load.ts";
import { openFileSource } from "../../src/engine/file-source.ts";
import { sha256 } from "../../src/engine/sha256.ts";
import { openContainer, readContainer } from "../../src/exact/container/container.ts";
import type { Quantization } from "../../src/exact/model/model.ts";
import type { TensorRef } from "../../src/formats/model-source.ts";
import { createWasmExecutor } from "../../src/exact/wasm/executor.ts";
import type { CheatModels } from "../../src/gateway/audits/cheats.suite.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const { signal } = new AbortController();
const contextTokensMax = 512;

export interface TinyModels extends CheatModels {
  /** The model that is sold, in an executor that takes so many rows in a step. */
  withRows(rowsMax: number): Promise<LoadedModel>;
}

export async function tinyModels(): Promise<TinyModels> {
  const folder = mkdtempSync(join(tmpdir(), "skein-detection-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const convert = async (file: string, quantization: Quantization): Promise<string> => {
    const target = join(folder, `${file}-${quantization}.skein`);
    await convertFile(join(root, "models", file), target, { signal, quantization });
    return target;
  };
  const tiny = await convert("tiny.Q8_0.gguf", "int8-row");
  return {
    sold: await load(tiny, {}),
    requantized: await load(await convert("tiny.Q8_0.gguf", "int4-group32"), {}),
    skipped: await load(tiny, { skipped: 3 }),
    draft: await load(await convert("draft.F16.gguf", "int8-row"), {}),
    withRows: (rowsMax) => load(tiny, { rowsMax }),
  };
}

interface LoadOptions {
  readonly rowsMax?: number;
  /** A layer that is left out. */
  readonly skipped?: number;
}

async function load(path: string, { rowsMax = 32, skipped }: LoadOptions): Promise<LoadedModel> {
  const source = await openFileSource(path);
  try {
    const info = await openContainer(source, sha256, signal);
    const { shape } = info.manifest;
    const layers = shape.layers - (skipped === undefined ? 0 : 1);
    const wasm = createWasmExecutor({ ...shape, layers }, { contextTokensMax, rowsMax });
    const place = (tensor: TensorRef): TensorRef | null => {
      if (skipped === undefined || !("layer" in tensor) || tensor.layer < skipped) return tensor;
      return tensor.layer === skipped ? null : { ...tensor, layer: tensor.layer - 1 };
    };
    const sink: typeof wasm.sink = {
      norm(tensor, weights) {
        const placed = place(tensor);
        return placed === null ? undefined : wasm.sink.norm(placed, weights);
      },
      matrix(tensor, matrix) {
        const placed = place(tensor);
        return placed === null ? undefined : wasm.sink.matrix(placed, matrix);
      },
    };
    await readContainer(source, info, sha256, sink, { signal });
    const facts = {
      modelId: info.modelId,
      name: info.name,
      contextTokensMax,
      parallelMax: 1,
      hasInfill: false,
      cacheTokensMax: contextTokensMax,
      dialect: { features: [] },
    };
    return { ...textOf(info, contextTokensMax), facts, executor: wasm.executor(), draft: null };
  } finally {
    await source.close();
  }
}
