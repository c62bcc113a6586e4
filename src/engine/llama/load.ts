import { SkeinError } from "../../util/errors.ts";
import type { GgufInfo } from "../gguf/inspect.ts";
import type { PieceTable } from "../piece-decoder.ts";
import type { InfillTexts, PromptTokenizer } from "../prompt.ts";
import { batchTokensMax } from "./batch-plan.ts";
import {
  checkBinding,
  importNodeLlamaCpp,
  type Llama,
  type LlamaModel,
  type RevealingContext,
} from "./binding.ts";
import type { LlamaLoadOptions } from "./messages.ts";
import { createPieceTable } from "./pieces.ts";
import { infillTextsOf, promptTokenizerOf } from "./prompt.ts";

/** Longer contexts exist, but their cache costs memory in every slot; more must be asked for. */
export const contextTokensDefault = 8192;

export interface LoadedModel {
  readonly info: GgufInfo;
  readonly llama: Llama;
  readonly model: LlamaModel;
  readonly context: RevealingContext;
  readonly tokenizer: PromptTokenizer;
  readonly infill: InfillTexts | null;
  readonly pieces: PieceTable;
  readonly contextTokens: number;
  readonly threads: number;
  /** "cpu", or the name of the GPU backend. */
  readonly backend: string;
}

/** @throws SkeinError `invalid_model_file`, `engine_not_installed`, `engine_unavailable` */
export async function loadModel(options: LlamaLoadOptions, info: GgufInfo): Promise<LoadedModel> {
  const nodeLlamaCpp = await importNodeLlamaCpp(options.moduleFolder);
  const llama = await nodeLlamaCpp
    .getLlama({
      // Never compiles or downloads anything by itself.
      build: "never",
      skipDownload: true,
      progressLogs: false,
      logLevel: "error",
      gpu: options.gpu,
    })
    .catch((error: unknown) => {
      throw new SkeinError("engine_unavailable", "llama.cpp has no build that runs on this machine.", {
        hint: "Run `skein doctor` for the reason, and `skein engine add llama` to install it again.",
        cause: error,
      });
    });
  const model = await llama
    .loadModel({ modelPath: info.path, ...(options.gpu === false ? { gpuLayers: 0 } : {}) })
    .catch((error: unknown) => {
      throw unloadable(info, error);
    });
  const wanted = options.contextTokens ?? contextTokensDefault;
  const contextTokens = Math.min(wanted, info.contextTokensTrained || wanted);
  const context = await model
    .createContext({
      contextSize: contextTokens,
      sequences: options.parallel,
      batchSize: batchTokensMax,
      threads: options.threads,
    })
    .catch((error: unknown) => {
      throw new SkeinError(
        "engine_unavailable",
        `There is not enough memory for ${options.parallel} contexts of ${contextTokens} tokens.`,
        {
          hint: "Use a smaller --context or --parallel.",
          cause: error,
        },
      );
    });
  checkBinding(context._ctx, model, llama);
  return {
    info,
    llama,
    model,
    context: context._ctx,
    tokenizer: promptTokenizerOf(model),
    infill: infillTextsOf(model),
    pieces: createPieceTable(model._model),
    contextTokens,
    threads: options.threads,
    backend: llama.gpu || "cpu",
  };
}

function unloadable(info: GgufInfo, error: unknown): SkeinError {
  const reason = error instanceof Error ? error.message : String(error);
  return new SkeinError(
    "invalid_model_file",
    `llama.cpp cannot load ${info.path} (architecture ${info.architecture}): ${reason.slice(0, 300)}`,
    {
      hint: "The file may be damaged, too large for this machine's memory, or too new for this llama.cpp.",
      cause: error,
    },
  );
}
