/**
 * What is asked of an engine and what it answers. The same shapes travel from the gateway over the
 * session to the provider and into the engine: one path for every request.
 */
import type { TrustTier } from "./offer.ts";
import type { PriceSheet } from "./price.ts";

export interface ChatMessage {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool";
  readonly content: string;
  readonly name?: string;
  /** An assistant's calls of functions, one at least; behind its content. */
  readonly toolCalls?: readonly ToolCall[];
  /** Of a tool's message: which call it answers. */
  readonly toolCallId?: string;
}

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** As the model wrote them: a JSON object, unless its answer was cut. */
  readonly arguments: string;
}

/** A function that the model may call. */
export interface Tool {
  readonly name: string;
  readonly description?: string;
  /** A JSON schema, as JSON text: properties keep their order. */
  readonly parameters: string;
}

/** Functions of one request; OpenAI takes no more either. */
export const toolsMax = 128;
/** Calls in one message. */
export const toolCallsMax = 128;
/** Characters of a function's name. */
export const toolNameCharsMax = 64;
/** Characters of a function's schema, as JSON. */
export const toolParametersCharsMax: number = 128 * 1024;

export type Prompt =
  /** Rendered by the provider with the model's own chat template. */
  | {
      readonly kind: "chat";
      readonly messages: readonly ChatMessage[];
      /** One at least, each name once; absent: none. */
      readonly tools?: readonly Tool[];
      /** The answer is to begin at once, from a model that would think first. */
      readonly thinks?: false;
    }
  /** Raw text; special tokens in it are not parsed as special. */
  | {
      readonly kind: "text";
      readonly text: string;
      /** What follows the answer: the model fills in the middle. Only where the offer has `infill`. */
      readonly suffix?: string;
    }
  | { readonly kind: "tokens"; readonly tokenIds: readonly number[] };

export interface Sampling {
  /** 0 is greedy. */
  readonly temperature: number;
  /** Keep the smallest set whose probability reaches topP; 1 is off. */
  readonly topP: number;
  /** Keep the k most likely tokens; 0 is off. */
  readonly topK: number;
  /** Keep tokens at least minP times as likely as the best; 0 is off. */
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Added to the logits of single tokens, in nats; each token id at most once, `logitBiasMax` entries at most. */
  readonly logitBias: readonly TokenBias[];
  /** Belongs to the request; with the position it keys every draw. An unsigned 32-bit integer. */
  readonly seed: number;
}

export type TokenBias = readonly [tokenId: number, nats: number];

/** Entries of one request's bias. */
export const logitBiasMax = 1_024;

/** What the receipt of an attempt refers to beside the request itself. */
export interface Terms {
  /** The tier that was offered. */
  readonly tier: TrustTier;
  /** The price that was offered. */
  readonly price: PriceSheet;
  /** Tokens of prompt and answer together that were offered. */
  readonly contextTokensMax: number;
  /** Whether this attempt charges for the prompt: an earlier attempt or another choice did so otherwise. */
  readonly chargesPrompt: boolean;
  /** Digest of the earlier attempt's receipt or last checkpoint; null: there was none. */
  readonly previous: Uint8Array | null;
}

/** What earlier attempts at the same request already produced; empty at the first attempt. */
export interface Emitted {
  readonly tokenIds: readonly number[];
  readonly text: string;
}

/** What an answer must look like, whatever the model would like to say. */
export interface Constraint {
  /** In XGrammar's EBNF; an answer is what its rule `root` matches. */
  readonly grammar: string;
  /** OpenAI's `response_format` as JSON, for engines that take no grammar; null: it has no such form. */
  readonly responseFormat: string | null;
  /** OpenAI's `tool_choice` and `parallel_tool_calls` in an object as JSON, for engines that take no grammar; absent: none. */
  readonly toolChoice?: string;
}

/** Characters of a grammar. */
export const grammarCharsMax: number = 256 * 1024;
/** Alternatives that a token's log probability comes with, at most. */
export const topLogprobsMax = 20;

export interface GenerateRequest {
  readonly requestId: string;
  readonly modelId: string;
  readonly prompt: Prompt;
  readonly emitted: Emitted;
  readonly sampling: Sampling;
  /** Output ends before the first occurrence of any of these; they are not part of the text. */
  readonly stop: readonly string[];
  /** Null: any answer. */
  readonly constraint: Constraint | null;
  /** With how many alternatives each token's log probability is wanted; null: without log probabilities. */
  readonly logprobs: number | null;
  /** Requests share what engines remember of their prompts only with those that have the same salt. */
  readonly cacheSalt?: string;
  /** Upper bound on output tokens, those of `emitted` included; null: up to the context's end. */
  readonly outputTokensMax: number | null;
  /** Milliseconds the provider may take in all before it gives up. */
  readonly timeoutMs: number;
  /** A receipt is wanted; absent: none. */
  readonly terms?: Terms;
  /** Inside the provider only, in the exact tier: leaves of this position are wanted. */
  readonly leavesAt?: number;
}

/** Commitments of an answer that a provider gave a receipt for, made again to show where a number is wrong. */
export interface TraceRequest {
  readonly modelId: string;
  /** Number of the receipt among the provider's. */
  readonly sequence: number;
  /** The whole answer, its prompt first. */
  readonly tokenIds: readonly number[];
  /** Whose leaves are wanted, too; null: none. */
  readonly position: number | null;
}

export interface Traced {
  /** Row hashes of all positions that the receipt commits to, one behind the other. */
  readonly rows: Uint8Array;
  /** Leaves of one row's tree; null: none were asked for. */
  readonly leaves: Uint8Array | null;
}

export type FinishReason = "stop" | "length";

/** Time as the provider saw it; all claims. */
export interface GenerateTimings {
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
}

/** A token's bytes, and the natural logarithm of its probability: of the model's own, before any sampling parameter. */
export interface ScoredToken {
  readonly bytes: Uint8Array;
  readonly logprob: number;
}

export interface TokenLogprob extends ScoredToken {
  /** The most likely ones at this position, best first. */
  readonly top: readonly ScoredToken[];
}

export type GenerateEvent =
  /** Always first: the prompt was accepted and counted. */
  | {
      readonly type: "start";
      readonly promptTokens: number;
      /** Prompt tokens found in the KV cache. */
      readonly cachedTokens: number;
      /** What the model reads; with `terms`, inside the provider only, where the engine has token ids. */
      readonly promptTokenIds?: readonly number[];
    }
  /**
   * New tokens. `position` is the index in the whole answer (emitted ones included) of the first of
   * `tokenIds`. `text` is what became certain with these tokens: it may be empty while a character
   * or a possible stop sequence is incomplete. Engines without token ids send empty `tokenIds` and
   * count in `tokenCount`.
   */
  | {
      readonly type: "tokens";
      readonly position: number;
      readonly tokenIds: readonly number[];
      readonly tokenCount: number;
      readonly text: string;
      /**
       * Row hashes (docs/EXACT.md, "Commitments") of the positions that were read since the last event, one behind the
       * other; with `terms`, inside the provider only, in the exact tier.
       */
      readonly rows?: Uint8Array;
      /** One for each of `tokenIds`, where they are asked for. */
      readonly logprobs?: readonly TokenLogprob[];
      /** With `leavesAt`, once: leaves of that position's row, one behind the other. */
      readonly leaves?: Uint8Array;
    }
  /** In the exact tier, with `terms`: the provider's signature under the commitments so far. */
  | {
      readonly type: "checkpoint";
      readonly position: number;
      readonly positions: number;
      readonly chain: Uint8Array;
      readonly signature: Uint8Array;
    }
  /** With `terms`, behind `end` or before the iteration throws: the encoded receipt of what was delivered. */
  | { readonly type: "receipt"; readonly encoded: Uint8Array }
  /** Always last (but for a receipt), unless the iteration throws. */
  | {
      readonly type: "end";
      readonly finishReason: FinishReason;
      /** Final count: engines without a tokenizer only estimate it at the start. */
      readonly promptTokens: number;
      readonly outputTokens: number;
      readonly timings: GenerateTimings;
      /** As in `tokens`. */
      readonly rows?: Uint8Array;
      readonly leaves?: Uint8Array;
    };

export const greedySampling: Sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 0,
};
