/** Messages between the engine (parent) and the process that runs llama.cpp (child). */
import type { GenerateEvent, GenerateRequest, Prompt } from "../../protocol/generate.ts";

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

export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly param?: string | undefined;
}

export type ToChild =
  | { readonly type: "load"; readonly options: LlamaLoadOptions }
  | { readonly type: "generate"; readonly id: number; readonly request: GenerateRequest }
  /** The consumer read this many `tokens` events more: back-pressure. */
  | { readonly type: "read"; readonly id: number; readonly events: number }
  | { readonly type: "cancel"; readonly id: number }
  | { readonly type: "count"; readonly id: number; readonly prompt: Prompt };

export type ToParent =
  | { readonly type: "loaded"; readonly contextTokens: number; readonly backend: string }
  | { readonly type: "load-failed"; readonly error: WireError }
  /** Everything that one step of the batch produced, in one message. */
  | { readonly type: "step"; readonly events: readonly (readonly [number, GenerateEvent])[] }
  | { readonly type: "failed"; readonly id: number; readonly error: WireError }
  | { readonly type: "counted"; readonly id: number; readonly promptTokens: number };

/** Unread `tokens` events of one request before its sequence pauses. */
export const unreadEventsMax = 256;
