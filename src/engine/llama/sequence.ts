/** One request inside the batch: its tokens, its sampler, and what its consumer has not read yet. */
import type { FinishReason, GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { StopMatcher } from "../stop-matcher.ts";
import { IncrementalDecoder } from "../text-decoder.ts";
import type { LlamaModel, NativeSampler, SamplerConfig } from "./binding.ts";
import { unreadEventsMax } from "./messages.ts";
import type { Slot } from "./slots.ts";

/** Tokens that penalties look back on. */
const penaltyTokensMax = 4096;

export class Sequence {
  readonly id: number;
  readonly request: GenerateRequest;
  /** Prompt, tokens of earlier attempts, and what was generated here. */
  readonly tokens: number[];
  readonly promptLength: number;
  readonly slot: Slot;
  readonly sampler: NativeSampler;
  readonly outputTokensMax: number;
  cachedTokens: number;
  unreadEvents = 0;
  prefillMs = 0;
  decodeMs = 0;

  readonly #decoder: IncrementalDecoder;
  readonly #stop: StopMatcher;
  readonly #model: LlamaModel;

  constructor(
    given: {
      id: number;
      request: GenerateRequest;
      promptTokens: number[];
      slot: Slot;
      contextTokens: number;
    },
    model: LlamaModel,
    sampler: NativeSampler,
  ) {
    this.id = given.id;
    this.request = given.request;
    this.slot = given.slot;
    this.promptLength = given.promptTokens.length;
    this.tokens = [...given.promptTokens, ...given.request.emitted.tokenIds];
    this.cachedTokens = given.slot.cells.length;
    this.outputTokensMax = Math.min(
      given.request.outputTokensMax ?? Number.POSITIVE_INFINITY,
      given.contextTokens - this.promptLength,
    );
    this.#model = model;
    this.sampler = sampler;
    const decode = (ids: readonly number[]): string => model._model.detokenize(Uint32Array.from(ids), false);
    this.#decoder = new IncrementalDecoder(decode, given.promptTokens);
    this.#stop = new StopMatcher(given.request.stop);
  }

  get outputTokens(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Tokens not yet evaluated; one while decoding. */
  get pending(): number {
    return this.tokens.length - this.slot.cells.length;
  }

  get paused(): boolean {
    return this.unreadEvents >= unreadEventsMax;
  }

  /**
   * Brings decoder and stop matcher to where the earlier attempts stopped. Returns the text that they
   * made certain but may not have delivered.
   */
  replayEmitted(): string {
    let text = "";
    for (const tokenId of this.request.emitted.tokenIds) {
      text += this.#stop.push(this.#decoder.push(tokenId)).text;
    }
    const delivered = this.request.emitted.text;
    return text.startsWith(delivered) ? text.slice(delivered.length) : "";
  }

  /** How the next token is drawn: by logits, seed and position alone. */
  samplerConfig(): SamplerConfig {
    const { sampling } = this.request;
    const config: SamplerConfig = { temperature: sampling.temperature };
    if (sampling.temperature > 0) {
      config.seed = drawSeed(sampling.seed, this.outputTokens);
      if (sampling.topK > 0) config.topK = sampling.topK;
      if (sampling.topP < 1) config.topP = sampling.topP;
      if (sampling.minP > 0) config.minP = sampling.minP;
    }
    if (sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0) {
      config.repeatPenaltyTokens = Uint32Array.from(this.tokens.slice(this.promptLength));
      config.repeatPenalty = 1;
      config.repeatPenaltyMaxTokens = penaltyTokensMax;
      config.repeatPenaltyPresencePenalty = sampling.presencePenalty;
      config.repeatPenaltyFrequencyPenalty = sampling.frequencyPenalty;
    }
    return config;
  }

  /** Takes a drawn token; returns the events that follow from it, an `end` among them when it was the last. */
  accept(tokenId: number): GenerateEvent[] {
    if (this.#model._model.isEogToken(tokenId)) return this.finish("stop");
    const position = this.outputTokens;
    this.tokens.push(tokenId);
    const { text, stopped } = this.#stop.push(this.#decoder.push(tokenId));
    const event: GenerateEvent = { type: "tokens", position, tokenIds: [tokenId], tokenCount: 1, text };
    if (stopped) return [event, this.#end("stop")];
    if (this.outputTokens < this.outputTokensMax) return [event];
    return [event, ...this.finish("length")];
  }

  /** The end without a further token: held-back text comes out. */
  finish(reason: FinishReason): GenerateEvent[] {
    const { text, stopped } = this.#stop.push(this.#decoder.flush());
    const rest = text + this.#stop.flush();
    const end = this.#end(stopped ? "stop" : reason);
    if (rest === "") return [end];
    return [{ type: "tokens", position: this.outputTokens, tokenIds: [], tokenCount: 0, text: rest }, end];
  }

  #end(finishReason: FinishReason): GenerateEvent {
    const timings = {
      queueMs: 0,
      prefillMs: Math.round(this.prefillMs),
      decodeMs: Math.round(this.decodeMs),
    };
    return { type: "end", finishReason, outputTokens: this.outputTokens, timings };
  }
}

/**
 * Seed of one draw: a mix of the request's seed and the position (finalizer of MurmurHash3 by Austin
 * Appleby, public domain), so that an answer continued elsewhere draws as the undisturbed one would.
 */
export function drawSeed(seed: number, position: number): number {
  let h = (seed ^ Math.imul(position + 1, 0x9e3779b1)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
