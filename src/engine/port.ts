/**
 * The engine port: one loaded model that turns a request into tokens. Implementations: `naive`
 * (deterministic, for tests), `llama` (llama.cpp in a child process), `exact` (models in integers, in a thread),
 * `openai` (an HTTP upstream).
 * `engine.suite.ts` is the one suite that every implementation passes.
 */
import type { EngineKind, Feature, ThoughtFormat, ToolFormat, TrustTier } from "../protocol/offer.ts";
import type { Embedded, EmbedRequest } from "../protocol/embed.ts";
import type { GenerateEvent, GenerateRequest, Prompt } from "../protocol/generate.ts";

export interface EngineModel {
  readonly modelId: string;
  /** Suggested alias; the provider may choose another. */
  readonly name: string;
  readonly contextTokensMax: number;
  readonly parallelMax: number;
  readonly trustTier: TrustTier;
  readonly resumable: boolean;
  /** As in the offer. */
  readonly forwardsPrompts?: true;
  readonly continuesText?: "completions" | "all";
  readonly features: readonly Feature[];
  readonly toolFormat?: ToolFormat;
  readonly thoughtFormat?: ThoughtFormat;
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

/** What is claimed of an answer. */
export interface ScoreRequest {
  /** As it was asked; `emitted` does not matter. */
  readonly request: GenerateRequest;
  /** Of the whole answer. */
  readonly tokenIds: readonly number[];
  /**
   * Whether the answer is said to have stopped: where no stop sequence shows in its tokens the model must have ended it,
   * and the end is scored like one token more.
   */
  readonly isEnded: boolean;
  /** Tokens of prompt and answer read in one step; null: the engine's own choice. Sizes differ in rounding. */
  readonly chunkTokens: number | null;
}

/** One number for each token of the answer, then one for its end if that was claimed. */
export interface AnswerScores {
  /**
   * How wrong logits would have to be, in nats before division by the temperature, for the request's own draw to give
   * the claimed token: max_j(l_j + T·G_j) − (l_claimed + T·G_claimed) for draws with Gumbel noise G. 0: the very token
   * that is drawn here. Infinity: one that the sampling does not allow.
   */
  readonly margins: readonly number[];
  /** Natural logarithm of its probability among the allowed tokens, at the request's temperature (greedy: at 1). */
  readonly logProbabilities: readonly number[];
  /** What the tokens say, as this engine writes them: up to the end or the stop sequence. */
  readonly text: string;
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

  /**
   * Reads a claimed answer and says how well it fits what this engine would have drawn: for audits of engines whose
   * rounding differs between machines. Absent where an engine cannot. Waits for a free slot and yields to requests.
   *
   * @throws SkeinError `context_length_exceeded`, `invalid_request`, `overloaded`, `engine_failed`,
   * `engine_unavailable`, `deadline_exceeded`, `cancelled`.
   */
  score?(request: ScoreRequest, signal: AbortSignal): Promise<AnswerScores>;

  /**
   * Texts as vectors of unit length. Present where the model's features have `embeddings`. Takes one slot, and waits for
   * it like a generation.
   *
   * @throws SkeinError `context_length_exceeded`, `invalid_request`, `unsupported_parameter` (`dimensions`), `overloaded`,
   * `engine_failed`, `engine_unavailable`, `upstream_failed`, `deadline_exceeded`, `cancelled`.
   */
  embed?(request: EmbedRequest, signal: AbortSignal): Promise<Embedded>;

  status(): EngineStatus;
  load(): EngineLoad;
  /** Calls back on every change of status; returns a function that unsubscribes. */
  onStatus(listener: (status: EngineStatus) => void): () => void;

  /** Stops everything; pending generations throw `engine_unavailable`. Idempotent, bounded in time. */
  close(): Promise<void>;
}
