/** One request inside the batch: its tokens, its sampler, and what its consumer has not read yet. */
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { AnswerWriter } from "../answer-writer.ts";
import { unreadEventsMax } from "../hosted/messages.ts";
import type { PieceTable } from "../piece-decoder.ts";
import type { NativeModel, NativeSampler, SamplerConfig } from "./binding.ts";
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
  /** Prompt tokens that were found in the cache. */
  readonly cachedTokens: number;
  readonly answer: AnswerWriter;
  servedAt = 0;
  unreadEvents = 0;
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
    this.#model = native.model;
    this.sampler = native.sampler;
    this.answer = new AnswerWriter(given.request, {
      promptTokens: this.promptLength,
      contextTokens: given.contextTokens,
      pieces: native.pieces,
    });
  }

  get order(): number {
    return this.slot.id;
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

  /** Sets the sampler up for the next draw: it depends on logits, seed and position alone. */
  prepareDraw(): void {
    const { sampling } = this.request;
    const penalized = sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0;
    // Greedy drawing has no state to set up again.
    if (this.answer.drawn && sampling.temperature === 0 && !penalized) return;
    const config: SamplerConfig = { temperature: sampling.temperature };
    if (sampling.temperature > 0) {
      config.seed = drawSeed(sampling.seed, this.answer.outputTokens);
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

  /** Takes a drawn token, a negative one where nothing could be drawn; returns the events that follow from it. */
  accept(tokenId: number): GenerateEvent[] {
    if (tokenId < 0 || this.#model.isEogToken(tokenId)) return this.answer.endOfGeneration();
    this.tokens.push(tokenId);
    return this.answer.accept(tokenId);
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
