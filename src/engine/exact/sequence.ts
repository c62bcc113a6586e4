/** One request inside the batch: its tokens, its draws, and what its consumer has not read yet. */
import { samplerParameters } from "../../exact/sampler/parameters.ts";
import { type SamplerParameters, sampleToken } from "../../exact/sampler/sampler.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { AnswerWriter } from "../answer-writer.ts";
import { unreadEventsMax } from "../hosted/messages.ts";
import type { TokenMask } from "../masks/token-masks.ts";
import type { PieceTable } from "../piece-decoder.ts";
import type { Context } from "./contexts.ts";
import { logprobOf } from "./logprobs.ts";
import { RowHashes } from "./row-hashes.ts";

/** For a sequence that is only read. Exactly one is called, once. */
export interface Reading {
  /** With the residual vector of the last token behind the last layer. */
  done(residual: Int32Array): void;
  fail(error: SkeinError): void;
}

export class Sequence {
  readonly id: number;
  /** Requests that came later have a larger one. */
  readonly arrival: number;
  /** Prompt, tokens of earlier attempts, and what was generated here. */
  readonly tokens: number[];
  readonly promptLength: number;
  /** Positions it may need at most. */
  readonly lengthMax: number;
  readonly salt: string;
  /** Null while it waits for memory. */
  context: Context | null = null;
  /** Prompt tokens that were found in the cache. */
  cachedTokens = 0;
  wasPreempted = false;
  /** Whether all pages it may need are set aside for it. */
  isSafe = false;
  /** Whether it has not looked for a leader since it began. */
  isFresh = false;
  /** Who evaluates its next tokens, up to `length` of them, because they are its own, too. */
  leader: { readonly sequence: Sequence; readonly length: number } | null = null;
  readonly answer: AnswerWriter;
  /** Bits do not depend on how a prompt is cut into steps. */
  readonly chunkMax: number = Number.POSITIVE_INFINITY;
  servedAt = 0;
  unreadEvents = 0;
  readonly mask: TokenMask | null;
  /** Who wants what the last layer makes of the last token, and no answer; null: nobody. */
  readonly reading: Reading | null;
  /** Null: no receipt is wanted. */
  readonly #rowHashes: RowHashes | null;
  readonly #logprobs: number | null;
  readonly #pieces: PieceTable;
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
      readonly contextTokens: number;
      /** Null: any token may come. */
      readonly mask: TokenMask | null;
      /** Absent: an answer is wanted. */
      readonly reading?: Reading;
    },
    vocabulary: { readonly pieces: PieceTable; readonly isEnd: (tokenId: number) => boolean },
  ) {
    const { request, promptTokens, contextTokens } = given;
    this.id = given.id;
    this.arrival = given.id;
    this.salt = request.cacheSalt ?? "";
    this.promptLength = promptTokens.length;
    this.tokens = [...promptTokens, ...request.emitted.tokenIds];
    this.lengthMax = Math.min(
      contextTokens,
      promptTokens.length + (request.outputTokensMax ?? contextTokens),
    );
    this.mask = given.mask;
    this.reading = given.reading ?? null;
    this.#rowHashes = request.terms === undefined ? null : new RowHashes(request.leavesAt ?? null);
    this.#logprobs = request.logprobs;
    this.#pieces = vocabulary.pieces;
    this.#isEnd = vocabulary.isEnd;
    this.#parameters = samplerParameters(request.sampling);
    this.#countsTokens = this.#parameters.presencePenalty !== 0 || this.#parameters.frequencyPenalty !== 0;
    for (const tokenId of request.emitted.tokenIds) this.#count(tokenId);
    this.answer = new AnswerWriter(request, {
      promptTokens: this.promptLength,
      contextTokens,
      pieces: vocabulary.pieces,
    });
  }

  /** Memory is there: what its context holds already need not be evaluated. */
  begin(context: Context): void {
    this.context = context;
    this.isSafe = this.wasPreempted;
    this.isFresh = true;
    if (!this.wasPreempted) this.cachedTokens = Math.min(context.cells.length, this.promptLength);
  }

  /** Tokens not yet evaluated; one while decoding. */
  get pending(): number {
    return this.tokens.length - (this.context?.cells.length ?? 0);
  }

  get order(): number {
    return this.arrival;
  }

  get paused(): boolean {
    return this.unreadEvents >= unreadEventsMax;
  }

  /** Whether row hashes of all positions are wanted. */
  get hasRows(): boolean {
    return this.#rowHashes !== null;
  }

  /** From this position on nothing is taken from others. */
  get sharedMax(): number {
    return this.#rowHashes?.leavesAt ?? Number.POSITIVE_INFINITY;
  }

  /** Its next position holds this token for good. @param layerLeaves of its row; empty unless `hasRows` */
  hold(token: number, layerLeaves: readonly Uint8Array[]): void {
    const { cells, rows } = this.context!;
    cells.push(token);
    this.#rowHashes?.add(rows, token, layerLeaves);
  }

  /**
   * Draws the next token: logits, seed, position, the answer so far and the request's constraint decide, nothing else.
   * @throws SkeinError when the constraint can no longer be watched over
   */
  draw(logits: Int32Array): GenerateEvent[] {
    const events = this.#draw(logits);
    const rows = this.#rowHashes?.take(this.context!.rows);
    return rows === undefined ? events : events.map((event, i) => (i === 0 ? { ...event, ...rows } : event));
  }

  #draw(logits: Int32Array): GenerateEvent[] {
    const allowed = this.mask?.allowed() ?? null;
    if (this.mask !== null && allowed === null) return this.answer.endOfGeneration();
    const position = this.answer.outputTokens;
    const tokenId = sampleToken(logits, this.#parameters, this.#counts, position, allowed);
    if (this.#isEnd(tokenId)) return this.answer.endOfGeneration();
    this.tokens.push(tokenId);
    this.#count(tokenId);
    this.mask?.advance(tokenId);
    const top = this.#logprobs;
    const logprob = top === null ? null : logprobOf(logits, tokenId, top, this.#pieces);
    return this.answer.accept(tokenId, this.mask, logprob);
  }

  /** What would be drawn after `drafted`, if these were drawn first; null where the answer would end. */
  drawAhead(logits: Int32Array, drafted: readonly number[]): number | null {
    let counts: ReadonlyMap<number, number> = this.#counts;
    if (this.#countsTokens && drafted.length > 0) {
      const more = new Map(this.#counts);
      for (const tokenId of drafted) more.set(tokenId, (more.get(tokenId) ?? 0) + 1);
      counts = more;
    }
    const position = this.answer.outputTokens + drafted.length;
    // The constraint knows only the tokens that were drawn: behind the first, this is a guess about it, too.
    const allowed = drafted.length === 0 ? this.#allowedNext() : null;
    const tokenId = sampleToken(logits, this.#parameters, counts, position, allowed);
    return this.#isEnd(tokenId) ? null : tokenId;
  }

  /** Whether the constraint lets this token come next. */
  allows(tokenId: number): boolean {
    const allowed = this.#allowedNext();
    return allowed === null || ((allowed[tokenId >> 5]! >>> (tokenId & 31)) & 1) === 1;
  }

  /** Null where anything may come, or where nothing more will: then the draw says so. */
  #allowedNext(): Int32Array | null {
    try {
      return this.mask?.allowed() ?? null;
    } catch (error) {
      // So does the draw.
      if (error instanceof SkeinError) return null;
      throw error;
    }
  }

  /** Tokens that can still follow the ones so far, the next one left out. */
  get roomLeft(): number {
    return this.lengthMax - this.tokens.length - 1;
  }

  #count(tokenId: number): void {
    if (this.#countsTokens) this.#counts.set(tokenId, (this.#counts.get(tokenId) ?? 0) + 1);
  }
}
