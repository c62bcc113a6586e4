/**
 * What is asked of an engine and what it answers. The same shapes travel from the gateway over the
 * session to the provider and into the engine: one path for every request.
 */

export interface ChatMessage {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool";
  readonly content: string;
  readonly name?: string;
}

export type Prompt =
  /** Rendered by the provider with the model's own chat template. */
  | { readonly kind: "chat"; readonly messages: readonly ChatMessage[] }
  /** Raw text; special tokens in it are not parsed as special. */
  | { readonly kind: "text"; readonly text: string }
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
  /** Belongs to the request; with the position it keys every draw. An unsigned 32-bit integer. */
  readonly seed: number;
}

/** What earlier attempts at the same request already produced; empty at the first attempt. */
export interface Emitted {
  readonly tokenIds: readonly number[];
  readonly text: string;
}

export interface GenerateRequest {
  readonly requestId: string;
  readonly modelId: string;
  readonly prompt: Prompt;
  readonly emitted: Emitted;
  readonly sampling: Sampling;
  /** Output ends before the first occurrence of any of these; they are not part of the text. */
  readonly stop: readonly string[];
  /** Requests share what engines remember of their prompts only with those that have the same salt. */
  readonly cacheSalt?: string;
  /** Upper bound on output tokens, those of `emitted` included; null: up to the context's end. */
  readonly outputTokensMax: number | null;
  /** Milliseconds the provider may take in all before it gives up. */
  readonly timeoutMs: number;
}

export type FinishReason = "stop" | "length";

/** Time as the provider saw it; all claims. */
export interface GenerateTimings {
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
}

export type GenerateEvent =
  /** Always first: the prompt was accepted and counted. */
  | {
      readonly type: "start";
      readonly promptTokens: number;
      /** Prompt tokens found in the KV cache. */
      readonly cachedTokens: number;
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
    }
  /** Always last, unless the iteration throws. */
  | {
      readonly type: "end";
      readonly finishReason: FinishReason;
      /** Final count: engines without a tokenizer only estimate it at the start. */
      readonly promptTokens: number;
      readonly outputTokens: number;
      readonly timings: GenerateTimings;
    };

export const greedySampling: Sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
};
