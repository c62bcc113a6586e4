/** One request inside the batch: its tokens, its sampler, and what its consumer has not read yet. */
import type { FinishReason, GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { StopMatcher } from "../stop-matcher.ts";
import type { NativeModel, NativeSampler, SamplerConfig } from "./binding.ts";
import { unreadEventsMax } from "./messages.ts";
import { PieceDecoder, type PieceTable } from "./pieces.ts";
import type { Slot } from "./slots.ts";

/** Tokens that penalties look back on. */
const penaltyTokensMax = 4096;
/**
 * Tokens of earlier attempts are evaluated in chunks below 64: up to there llama.cpp's processor kernels
 * give Q8_0 models the same bits as token by token, so that the continuation is the undisturbed one.
 */
const emittedChunkTokens = 63;

export class Sequence {
  readonly id: number;
  readonly request: GenerateRequest;
  /** Prompt, tokens of earlier attempts, and what was generated here. */
  readonly tokens: number[];
  readonly promptLength: number;
  readonly slot: Slot;
  readonly sampler: NativeSampler;
  readonly outputTokensMax: number;
  /** Prompt tokens that were found in the cache. */
  readonly cachedTokens: number;
  unreadEvents = 0;
  #prefillMs = 0;
  #decodeMs = 0;
  #drawn = false;
  /** Characters still to come that the client has: an earlier attempt delivered what it held back, its end got lost. */
  #surplus = 0;

  readonly #decoder: PieceDecoder;
  readonly #stop: StopMatcher;
  readonly #model: NativeModel;

  constructor(
    given: {
      id: number;
      request: GenerateRequest;
      promptTokens: number[];
      slot: Slot;
      contextTokens: number;
    },
    native: { model: NativeModel; pieces: PieceTable; sampler: NativeSampler },
  ) {
    this.id = given.id;
    this.request = given.request;
    this.slot = given.slot;
    this.promptLength = given.promptTokens.length;
    this.tokens = [...given.promptTokens, ...given.request.emitted.tokenIds];
    this.cachedTokens = Math.min(given.slot.cells.length, this.promptLength);
    this.outputTokensMax = Math.min(
      given.request.outputTokensMax ?? Number.POSITIVE_INFINITY,
      given.contextTokens - this.promptLength,
    );
    this.#model = native.model;
    this.sampler = native.sampler;
    this.#decoder = new PieceDecoder(native.pieces);
    this.#stop = new StopMatcher(given.request.stop);
  }

  get outputTokens(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Tokens not yet evaluated; one while decoding. */
  get pending(): number {
    return this.tokens.length - this.slot.cells.length;
  }

  /** How many of them one step may take. */
  get chunkMax(): number {
    const { promptLength, slot, request } = this;
    if (request.emitted.tokenIds.length === 0) return Number.POSITIVE_INFINITY;
    // The prompt apart, as the first attempt read it.
    return slot.cells.length < promptLength ? promptLength - slot.cells.length : emittedChunkTokens;
  }

  get paused(): boolean {
    return this.unreadEvents >= unreadEventsMax;
  }

  /**
   * Brings decoder and stop matcher to where the earlier attempts stopped. Returns what follows already:
   * text that they made certain but did not deliver, or the end that they did not live to tell.
   */
  replayEmitted(): GenerateEvent[] {
    const { tokenIds, text: delivered } = this.request.emitted;
    let text = "";
    let stopped = false;
    for (const tokenId of tokenIds) {
      const pushed = this.#stop.push(this.#decoder.push(tokenId));
      text += pushed.text;
      stopped ||= pushed.stopped;
    }
    const events: GenerateEvent[] = [];
    if (text.startsWith(delivered) && text !== delivered) {
      events.push(this.#textOnly(text.slice(delivered.length)));
    }
    if (delivered.startsWith(text)) this.#surplus = delivered.length - text.length;
    if (stopped) return [...events, this.#end("stop")];
    if (this.outputTokens >= this.outputTokensMax) return [...events, ...this.finish("length")];
    return events;
  }

  /** Sets the sampler up for the next draw: it depends on logits, seed and position alone. */
  prepareDraw(): void {
    const { sampling } = this.request;
    const penalized = sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0;
    // Greedy drawing has no state to set up again.
    if (this.#drawn && sampling.temperature === 0 && !penalized) return;
    const config: SamplerConfig = { temperature: sampling.temperature };
    if (sampling.temperature > 0) {
      config.seed = drawSeed(sampling.seed, this.outputTokens);
      if (sampling.topK > 0) config.topK = sampling.topK;
      if (sampling.topP < 1) config.topP = sampling.topP;
      if (sampling.minP > 0) config.minP = sampling.minP;
    }
    if (penalized) {
      const from = Math.max(this.promptLength, this.tokens.length - penaltyTokensMax);
      config.repeatPenaltyTokens = Uint32Array.from(this.tokens.slice(from));
      config.repeatPenalty = 1;
      config.repeatPenaltyMaxTokens = penaltyTokensMax;
      config.repeatPenaltyPresencePenalty = sampling.presencePenalty;
      config.repeatPenaltyFrequencyPenalty = sampling.frequencyPenalty;
    }
    this.sampler.applyConfig(config);
  }

  /** Adds a step's time to the phase that the sequence is in. */
  account(stepMs: number): void {
    if (this.#drawn) this.#decodeMs += stepMs;
    else this.#prefillMs += stepMs;
  }

  /**
   * Takes a drawn token; returns the events that follow from it, an `end` among them when it was the last.
   * A token that ends generation is neither delivered nor counted.
   */
  accept(tokenId: number): GenerateEvent[] {
    this.#drawn = true;
    if (this.#model.isEogToken(tokenId)) return this.finish("stop");
    const position = this.outputTokens;
    this.tokens.push(tokenId);
    const { text: certain, stopped } = this.#stop.push(this.#decoder.push(tokenId));
    const text = this.#withoutSurplus(certain);
    const event: GenerateEvent = { type: "tokens", position, tokenIds: [tokenId], tokenCount: 1, text };
    if (stopped) return [event, this.#end("stop")];
    if (this.outputTokens < this.outputTokensMax) return [event];
    return [event, ...this.finish("length")];
  }

  /** The end without a further token: held-back text comes out. */
  finish(reason: FinishReason): GenerateEvent[] {
    const { text } = this.#stop.push(this.#decoder.flush());
    const held = this.#stop.flush();
    const rest = this.#withoutSurplus(text + held.text);
    // A stop sequence may be complete only now that no earlier one can precede it.
    const end = this.#end(held.stopped ? "stop" : reason);
    if (rest === "") return [end];
    return [this.#textOnly(rest), end];
  }

  #withoutSurplus(text: string): string {
    const rest = text.slice(this.#surplus);
    this.#surplus -= text.length - rest.length;
    return rest;
  }

  #textOnly(text: string): GenerateEvent {
    return { type: "tokens", position: this.outputTokens, tokenIds: [], tokenCount: 0, text };
  }

  #end(finishReason: FinishReason): GenerateEvent {
    const timings = {
      queueMs: 0,
      prefillMs: Math.round(this.#prefillMs),
      decodeMs: Math.round(this.#decodeMs),
    };
    return {
      type: "end",
      finishReason,
      promptTokens: this.promptLength,
      outputTokens: this.outputTokens,
      timings,
    };
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
  // Not 0xffffffff, which llama.cpp takes for "choose one by chance".
  return ((h ^ (h >>> 16)) >>> 0) % 0xffffffff;
}
