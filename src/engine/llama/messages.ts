/** Messages between the engine (parent) and the process that runs llama.cpp (child). */
import type { offeredDialect } from "../chat-dialect.ts";
import type { FromHost, ToHost, WireError } from "../hosted/messages.ts";

export interface LlamaLoadOptions {
  readonly modelPath: string;
  /** Folder of the installed node-llama-cpp package. */
  readonly moduleFolder: string;
  /** Prompt and answer of one request together; null: the model's own, up to `contextTokensDefault`. */
  readonly contextTokens: number | null;
  readonly parallel: number;
  readonly threads: number;
  /** "auto": the best backend that is installed; false: CPU only. */
  readonly gpu: "auto" | false;
}

export interface LoadedFacts {
  readonly contextTokens: number;
  /** "cpu", or the name of the GPU backend. */
  readonly backend: string;
  /** What its chat template knows. */
  readonly dialect: ReturnType<typeof offeredDialect>;
  /** Whether its vocabulary has tokens to fill in the middle of a text. */
  readonly hasInfill: boolean;
}

export type ToChild = { readonly type: "load"; readonly options: LlamaLoadOptions } | ToHost;

export type ToParent =
  | ({ readonly type: "loaded" } & LoadedFacts)
  | { readonly type: "load-failed"; readonly error: WireError }
  | FromHost;
