/** An offer: what a provider serves, at what price, until when. Signed; see `signing.ts`. */
import type { NetworkCoordinate } from "./coordinate.ts";
import type { Prompt } from "./generate.ts";
import type { PriceSheet } from "./price.ts";

export type EngineKind = "llama" | "exact" | "openai" | "naive";

/**
 * `json`: answers of the form that `response_format` describes; `grammar`: any constraint; `logprobs`; `tools`: calls of
 * functions; `no_thinking`: answers without thoughts before them; `embeddings`: `embed` requests; `infill`: texts with a
 * suffix. What a request needs, an offer must have.
 */
export type Feature = "json" | "grammar" | "logprobs" | "tools" | "no_thinking" | "embeddings" | "infill";

/**
 * How a model writes that it calls functions (docs/API.md, "Tools"). `generic` is asked for in words, of models whose
 * chat templates know no functions.
 */
export type ToolFormat = (typeof toolFormats)[number];
export const toolFormats = ["hermes", "llama3", "mistral", "mistral_args", "generic"] as const;

/**
 * Where a model that thinks before it answers puts its thoughts: between `<think>` and `</think>` at the beginning
 * (`tags`), or before `</think>`, since its template has opened them already (`opened`).
 */
export type ThoughtFormat = (typeof thoughtFormats)[number];
export const thoughtFormats = ["tags", "opened"] as const;

/** How much an answer can be checked (system of tiers; only the first exists for float engines). */
export type TrustTier = "float" | "exact" | "unverified";

export interface ModelOffer {
  /**
   * Identity: a scheme and a hash over weights, hyperparameters, tokenizer and template, for example
   * `gguf-sha256:9f…`. Two offers with the same modelId serve the same model.
   */
  readonly modelId: string;
  /** Human name, an alias of the identity: `tiny`. Several identities may share one name. */
  readonly name: string;
  readonly engine: EngineKind;
  readonly trustTier: TrustTier;
  /** Tokens of prompt and answer together. */
  readonly contextTokensMax: number;
  /** Requests generated at the same time; more are queued at the provider. */
  readonly parallelMax: number;
  /** Whether an attempt can continue from token ids emitted elsewhere. */
  readonly resumable: boolean;
  /** Prompts leave the provider's machine: its engine passes them on to a server of which nobody here knows anything. */
  readonly forwardsPrompts?: true;
  /**
   * Without token ids: behind which prompts an attempt can continue from the text that was emitted; only those of
   * completions, or chats too. Absent: none.
   */
  readonly continuesText?: "completions" | "all";
  /** What it can do beyond plain answers; names that a gateway does not know are ignored. */
  readonly features: readonly string[];
  /** Absent: `generic`. */
  readonly toolFormat?: ToolFormat;
  /** Absent: it does not think before it answers. */
  readonly thoughtFormat?: ThoughtFormat;
  readonly price: PriceSheet;
}

/** Whether an answer without token ids can go on behind a prompt. */
export function continuesByText(
  { continuesText }: Pick<ModelOffer, "continuesText">,
  prompt: Prompt,
): boolean {
  if (prompt.kind === "text") return continuesText !== undefined;
  // Calls are no text for an upstream.
  if (prompt.kind === "chat" && prompt.tools !== undefined) return false;
  // Behind an assistant's own words a server may take the two messages for one, or for two.
  return continuesText === "all" && prompt.kind === "chat" && prompt.messages.at(-1)?.role !== "assistant";
}

export interface Offer {
  readonly providerId: string;
  /** Increases with every offer of this provider; the highest wins. */
  readonly sequence: number;
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  /** Declared, not proved: `eu-west`, or empty. */
  readonly region: string;
  /** As it says; absent: it has not measured enough yet. Good for estimates until somebody measures. */
  readonly coordinate?: NetworkCoordinate;
  readonly models: readonly ModelOffer[];
}

/** Signed bytes as they travel: canonical CBOR of the payload, and an Ed25519 signature over it. */
export interface SignedEnvelope {
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
}

/** What a provider says about itself with every heartbeat. */
export interface ProviderStatus {
  /** Requests being generated now. */
  readonly active: number;
  /** Requests waiting for a slot. */
  readonly queued: number;
  /** Whether the engine takes work; false while it restarts. */
  readonly ready: boolean;
  /** Why not, in a few words; empty when ready. */
  readonly reason: string;
}
