/** One request inside the batch: its tokens, its draws, and what its consumer has not read yet. */
import { samplerParameters } from "../../exact/sampler/parameters.ts";
import { type SamplerParameters, sampleToken } from "../../exact/sampler/sampler.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { AnswerWriter } from "../answer-writer.ts";
import { unreadEventsMax } from "../hosted/messages.ts";
import type { PieceTable } from "../piece-decoder.ts";
import { RowHashes } from "./row-hashes.ts";
import type { Slot } from "./slots.ts";

export class Sequence {
  readonly id: number;
  /** Prompt, tokens of earlier attempts, and what was generated here. */
  readonly tokens: number[];
  readonly promptLength: number;
  readonly slot: Slot;
  /** Prompt tokens that were found in the cache. */
  readonly cachedTokens: number;
  readonly answer: AnswerWriter;
  /** Bits do not depend on how a prompt is cut into steps. */
  readonly chunkMax: number = Number.POSITIVE_INFINITY;
  unreadEvents = 0;
  /** Null: no receipt is wanted. */
  readonly rowHashes: RowHashes | null;
  readonly #isEnd: (tokenId: number) => boolean;
  readonly #parameters: SamplerParameters;
  /** How often each token occurs in the answer; empty where no penalty asks for it. */
  readonly #counts = new Map<number, number>();
  readonly #countsTokens: boolean;

  constructor(
    given: {
      readonly id: number;
      readonly request: GenerateRequest;
      readonly promptTokens: readonly number[];
      readonly slot: Slot;
      readonly contextTokens: number;
    },
    vocabulary: { readonly pieces: PieceTable; readonly isEnd: (tokenId: number) => boolean },
  ) {
    const { request, promptTokens, slot } = given;
    this.id = given.id;
    this.slot = slot;
    this.promptLength = promptTokens.length;
    this.tokens = [...promptTokens, ...request.emitted.tokenIds];
    this.cachedTokens = Math.min(slot.cells.length, this.promptLength);
    this.rowHashes = request.terms === undefined ? null : new RowHashes(slot.rows, request.leavesAt ?? null);
    this.#isEnd = vocabulary.isEnd;
    this.#parameters = samplerParameters(request.sampling);
    this.#countsTokens = this.#parameters.presencePenalty !== 0 || this.#parameters.frequencyPenalty !== 0;
    for (const tokenId of request.emitted.tokenIds) this.#count(tokenId);
    this.answer = new AnswerWriter(request, {
      promptTokens: this.promptLength,
      contextTokens: given.contextTokens,
      pieces: vocabulary.pieces,
    });
  }

  /** Tokens not yet evaluated; one while decoding. */
  get pending(): number {
    return this.tokens.length - this.slot.cells.length;
  }

  get paused(): boolean {
    return this.unreadEvents >= unreadEventsMax;
  }

  /** Draws the next token: logits, seed, position and the answer so far decide, nothing else. */
  draw(logits: Int32Array): GenerateEvent[] {
    const events = this.#draw(logits);
    const rows = this.rowHashes?.take();
    return rows === undefined ? events : events.map((event, i) => (i === 0 ? { ...event, ...rows } : event));
  }

  #draw(logits: Int32Array): GenerateEvent[] {
    const tokenId = sampleToken(logits, this.#parameters, this.#counts, this.answer.outputTokens);
    if (this.#isEnd(tokenId)) return this.answer.endOfGeneration();
    this.tokens.push(tokenId);
    this.#count(tokenId);
    return this.answer.accept(tokenId);
  }

  #count(tokenId: number): void {
    if (this.#countsTokens) this.#counts.set(tokenId, (this.#counts.get(tokenId) ?? 0) + 1);
  }
}
