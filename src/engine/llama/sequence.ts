/** One request inside the batch: its tokens, its sampler, and what its consumer has not read yet. */
import type { GenerateEvent, GenerateRequest, TokenLogprob } from "../../protocol/generate.ts";
import { AnswerWriter } from "../answer-writer.ts";
import { unreadEventsMax } from "../hosted/messages.ts";
import type { PieceTable } from "../piece-decoder.ts";
import type { TokenMask } from "../masks/token-masks.ts";
import type { NativeModel, NativeSampler, SamplerConfig, RevealingContext } from "./binding.ts";
import type { Slot } from "./slots.ts";

/** Tokens that penalties look back on. */
const penaltyTokensMax = 4096;
/**
 * Tokens of earlier attempts are evaluated in chunks below 64: up to there llama.cpp's processor kernels
 * give Q8_0 models the same bits as token by token, so that the continuation is the undisturbed one.
 */
const emittedChunkTokens = 63;

/** What was drawn; a negative id where nothing could be, null where the answer is complete without another token. */
export interface Drawn {
  readonly tokenId: number | null;
  readonly logprob: TokenLogprob | null;
}

export class Sequence {
  readonly id: number;
  readonly request: GenerateRequest;
  /** Prompt, tokens of earlier attempts, and what was generated here. */
  readonly tokens: number[];
  readonly promptLength: number;
  readonly slot: Slot;
  /** A second one, where log probabilities are wanted, draws nothing: it shows the model's own logits. */
  readonly samplers: readonly NativeSampler[];
  readonly mask: TokenMask | null;
  /** Prompt tokens that were found in the cache. */
  readonly cachedTokens: number;
  readonly answer: AnswerWriter;
  servedAt = 0;
  unreadEvents = 0;
  readonly #model: NativeModel;
  readonly #pieces: PieceTable;
  readonly #vocabularySize: number;

  constructor(
    given: {
      id: number;
      request: GenerateRequest;
      promptTokens: number[];
      slot: Slot;
      contextTokens: number;
      vocabularySize: number;
      /** Null: any token may come. */
      mask: TokenMask | null;
    },
    native: { model: NativeModel; pieces: PieceTable; newSampler: () => NativeSampler },
  ) {
    this.id = given.id;
    this.request = given.request;
    this.slot = given.slot;
    this.promptLength = given.promptTokens.length;
    this.tokens = [...given.promptTokens, ...given.request.emitted.tokenIds];
    this.cachedTokens = Math.min(given.slot.cells.length, this.promptLength);
    this.#model = native.model;
    this.#pieces = native.pieces;
    this.#vocabularySize = given.vocabularySize;
    this.samplers = Array.from({ length: given.request.logprobs === null ? 1 : 2 }, native.newSampler);
    this.mask = given.mask;
    this.samplers[1]?.applyConfig({ temperature: 0 });
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

  /**
   * Draws the next token: it depends on logits, seed, position and the request's constraint alone.
   * @param index of the logits in the batch
   * @throws SkeinError when the constraint can no longer be watched over
   */
  async draw(context: RevealingContext, index: number): Promise<Drawn> {
    if (this.isComplete) return { tokenId: null, logprob: null };
    const { sampler } = this;
    this.prepareDraw();
    let tokenId = await context.sampleToken(index, sampler);
    const allowed = this.mask?.allowed() ?? null;
    if (allowed !== null && !isAllowed(allowed, tokenId)) {
      // Rounding lets a token without any probability be drawn once in a while.
      sampler.applyConfig({ temperature: 0, ...this.#biasOf(allowed) });
      tokenId = await context.sampleToken(index, sampler);
    }
    return { tokenId, logprob: await this.#logprobOf(context, index, tokenId) };
  }

  async #logprobOf(context: RevealingContext, index: number, tokenId: number): Promise<TokenLogprob | null> {
    const count = this.request.logprobs;
    if (count === null || tokenId < 0) return null;
    const wanted = [[tokenId], false, false, false, Math.max(1, count)] as const;
    const [, , , logits, sum] = await context.sampleToken(
      index,
      this.samplers[1]!,
      false,
      false,
      wanted,
      true,
    );
    const best = logits[1]!;
    const scored = Array.from({ length: logits.length / 2 }, (_, i) => ({
      bytes: this.#pieces(logits[2 * i]!),
      logprob: Math.fround(Math.min(0, logits[2 * i + 1]! - best - Math.log(sum))),
    }));
    return { ...scored.at(-1)!, top: scored.slice(0, Math.min(count, scored.length - 1)) };
  }

  /** The one that draws. */
  get sampler(): NativeSampler {
    return this.samplers[0]!;
  }

  /** Whether the form that is asked for leaves nothing more to say. @throws SkeinError as `draw` */
  get isComplete(): boolean {
    return this.mask !== null && this.mask.allowed() === null;
  }

  /** Whether the form that is asked for lets this token come next. @throws SkeinError as `draw` */
  mayFollow(tokenId: number): boolean {
    const allowed = this.mask?.allowed() ?? null;
    return this.mask === null || (allowed !== null && isAllowed(allowed, tokenId));
  }

  /** Sets the sampler up for the next draw. @throws SkeinError as `draw` */
  prepareDraw(): void {
    const allowed = this.mask?.allowed() ?? null;
    const { sampling } = this.request;
    const penalized = sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0;
    // Greedy drawing has no state to set up again.
    if (this.answer.drawn && sampling.temperature === 0 && !penalized && allowed === null) return;
    const config: SamplerConfig = { temperature: sampling.temperature };
    if (sampling.temperature > 0) {
      config.seed = drawSeed(sampling.seed, this.answer.outputTokens);
      if (sampling.topK > 0) config.topK = sampling.topK;
      if (sampling.topP < 1) config.topP = sampling.topP;
      if (sampling.minP > 0) config.minP = sampling.minP;
    }
    Object.assign(config, this.#biasOf(allowed));
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

  /** The request's bias, and −∞ for what may not come. */
  #biasOf(allowed: Int32Array | null): Pick<SamplerConfig, "tokenBiasKeys" | "tokenBiasValues"> {
    const { logitBias } = this.request.sampling;
    if (allowed === null && logitBias.length === 0) return {};
    const bias = logitBias.filter(([tokenId]) => allowed === null || isAllowed(allowed, tokenId));
    const keys = new Uint32Array(bias.length + (allowed === null ? 0 : this.#vocabularySize));
    const values = new Float32Array(keys.length).fill(Number.NEGATIVE_INFINITY);
    let count = 0;
    for (const [tokenId, nats] of bias) {
      keys[count] = tokenId;
      values[count++] = nats;
    }
    for (let id = 0; id < keys.length - bias.length; id++) {
      if (!isAllowed(allowed!, id)) keys[count++] = id;
    }
    return { tokenBiasKeys: keys.subarray(0, count), tokenBiasValues: values.subarray(0, count) };
  }

  /** Takes what was drawn; returns the events that follow from it. */
  accept({ tokenId, logprob }: Drawn): GenerateEvent[] {
    if (tokenId === null || tokenId < 0 || this.#model.isEogToken(tokenId)) {
      return this.answer.endOfGeneration();
    }
    this.tokens.push(tokenId);
    this.mask?.advance(tokenId);
    return this.answer.accept(tokenId, this.mask, logprob);
  }
}

function isAllowed(allowed: Int32Array, tokenId: number): boolean {
  return tokenId >= 0 && ((allowed[tokenId >>> 5]! >>> (tokenId & 31)) & 1) === 1;
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
