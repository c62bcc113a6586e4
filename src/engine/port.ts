/**
 * The engine port: one loaded model that turns a request into tokens. Implementations: `naive`
 * (deterministic, for tests), `llama` (llama.cpp in a child process), `exact` (models in integers, in a thread),
 * `openai` (an HTTP upstream).
 * `engine.suite.ts` is the one suite that every implementation passes.
 */
import type { EngineKind, Feature, TrustTier } from "../protocol/offer.ts";
import type { GenerateEvent, GenerateRequest, Prompt } from "../protocol/generate.ts";

export interface EngineModel {
  readonly modelId: string;
  /** Suggested alias; the provider may choose another. */
  readonly name: string;
  readonly contextTokensMax: number;
  readonly parallelMax: number;
  readonly trustTier: TrustTier;
  readonly resumable: boolean;
  readonly features: readonly Feature[];
}

export type EngineStatus =
  | { readonly state: "ready" }
  /** Native code crashed or hung; the engine is coming back by itself. */
  | { readonly state: "restarting"; readonly reason: string }
  | { readonly state: "failed"; readonly reason: string };

export interface EngineLoad {
  readonly active: number;
  readonly queued: number;
}

export interface Engine {
  readonly kind: EngineKind;
  readonly model: EngineModel;

  /**
   * Generates an answer: one `start`, then `tokens`, then one `end`. Leaving the loop or aborting
   * `signal` cancels at the next step and frees the slot. Requests beyond `parallelMax` wait in a
   * bounded queue; beyond it `overloaded` is thrown. Stop sequences are cut here.
   *
   * @throws SkeinError `context_length_exceeded`, `invalid_request`, `overloaded`, `engine_failed`,
   * `engine_unavailable`, `upstream_failed`, `cancelled`.
   */
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent>;

  /** Exact number of prompt tokens after the chat template; an upper estimate where unknowable. */
  countPromptTokens(prompt: Prompt, signal: AbortSignal): Promise<number>;

  status(): EngineStatus;
  load(): EngineLoad;
  /** Calls back on every change of status; returns a function that unsubscribes. */
  onStatus(listener: (status: EngineStatus) => void): () => void;

  /** Stops everything; pending generations throw `engine_unavailable`. Idempotent, bounded in time. */
  close(): Promise<void>;
}
