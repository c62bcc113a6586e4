import type { FinishReason, GenerateEvent, GenerateRequest, TokenLogprob } from "../protocol/generate.ts";
import type { TokenMask } from "./masks/token-masks.ts";
import { PieceDecoder, type PieceTable } from "./piece-decoder.ts";
import { StopMatcher } from "./stop-matcher.ts";

/**
 * Turns drawn tokens into events: whole characters, stop sequences, limits, and the seam to what earlier attempts
 * delivered. The same for every engine that draws its tokens itself.
 */
export class AnswerWriter {
  readonly #promptTokens: number;
  readonly #outputTokensMax: number;
  readonly #request: GenerateRequest;
  readonly #decoder: PieceDecoder;
  readonly #stop: StopMatcher;
  #outputTokens: number;
  #prefillMs = 0;
  #decodeMs = 0;
  #drawn = false;
  /** Characters still to come that the client has: an earlier attempt delivered what it held back, its end got lost. */
  #surplus = 0;

  /** `emitted` of the request has token ids. */
  constructor(
    request: GenerateRequest,
    given: {
      readonly promptTokens: number;
      readonly contextTokens: number;
      readonly pieces: PieceTable;
    },
  ) {
    this.#request = request;
    this.#promptTokens = given.promptTokens;
    this.#outputTokens = request.emitted.tokenIds.length;
    this.#outputTokensMax = Math.min(
      request.outputTokensMax ?? Number.POSITIVE_INFINITY,
      given.contextTokens - given.promptTokens,
    );
    this.#decoder = new PieceDecoder(given.pieces);
    this.#stop = new StopMatcher(request.stop);
  }

  /** Tokens of the answer so far, those of earlier attempts included. */
  get outputTokens(): number {
    return this.#outputTokens;
  }

  /** Whether a token was drawn here. */
  get drawn(): boolean {
    return this.#drawn;
  }

  /**
   * Brings decoder and stop matcher to where the earlier attempts stopped. Returns what follows already:
   * text that they made certain but did not deliver, or the end that they did not live to tell.
   */
  replayEmitted(mask: TokenMask | null): GenerateEvent[] {
    const { tokenIds, text: delivered } = this.#request.emitted;
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
    if (this.#outputTokens >= this.#outputTokensMax) return [...events, ...this.#limit(mask)];
    return events;
  }

  /** Adds a step's time to the phase that the answer is in. */
  account(stepMs: number): void {
    if (this.#drawn) this.#decodeMs += stepMs;
    else this.#prefillMs += stepMs;
  }

  /**
   * Takes a drawn token; returns the events that follow from it, an `end` among them when it was the last.
   * @param mask of the answer with this token
   */
  accept(tokenId: number, mask: TokenMask | null, logprob: TokenLogprob | null): GenerateEvent[] {
    this.#drawn = true;
    const position = this.#outputTokens;
    this.#outputTokens += 1;
    const { text: certain, stopped } = this.#stop.push(this.#decoder.push(tokenId));
    const text = this.#withoutSurplus(certain);
    const tokens = { type: "tokens", position, tokenIds: [tokenId], tokenCount: 1, text } as const;
    const event: GenerateEvent = logprob === null ? tokens : { ...tokens, logprobs: [logprob] };
    if (stopped) return [event, this.#end("stop")];
    if (this.#outputTokens < this.#outputTokensMax) return [event];
    return [event, ...this.#limit(mask)];
  }

  /** The model ended its answer; the token that says so is neither delivered nor counted. */
  endOfGeneration(): GenerateEvent[] {
    this.#drawn = true;
    return this.#finish("stop");
  }

  /** No room for more: an answer whose form is complete needs none. */
  #limit(mask: TokenMask | null): GenerateEvent[] {
    return this.#finish(mask !== null && mask.allowed() === null ? "stop" : "length");
  }

  /** The end without a further token: held-back text comes out. */
  #finish(reason: FinishReason): GenerateEvent[] {
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
    return { type: "tokens", position: this.#outputTokens, tokenIds: [], tokenCount: 0, text };
  }

  #end(finishReason: FinishReason): GenerateEvent {
    return {
      type: "end",
      finishReason,
      promptTokens: this.#promptTokens,
      outputTokens: this.#outputTokens,
      timings: {
        queueMs: 0,
        prefillMs: Math.round(this.#prefillMs),
        decodeMs: Math.round(this.#decodeMs),
      },
    };
  }
}
