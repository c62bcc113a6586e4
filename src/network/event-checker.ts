import type { StreamFrame, TokensFrame } from "../protocol/frames.ts";
import type { GenerateEvent, GenerateRequest } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";

/**
 * Checks that a provider's frames form an answer: start first, positions without gap or overlap, counts
 * within what was asked, and an end that agrees with them.
 */
export class EventChecker {
  readonly #outputTokensMax: number;
  #position: number;
  readonly #wantsReceipt: boolean;
  #started = false;
  #ended = false;
  /** What the token ids say of the count: nothing yet, all of it, or less because some came without. */
  #counted: "nothing" | "everything" | "something" = "nothing";

  readonly #logprobs: number | null;

  constructor(request: Pick<GenerateRequest, "emitted" | "outputTokensMax" | "terms" | "logprobs">) {
    this.#wantsReceipt = request.terms !== undefined;
    this.#logprobs = request.logprobs;
    this.#position = request.emitted.tokenIds.length;
    this.#outputTokensMax = request.outputTokensMax ?? Number.POSITIVE_INFINITY;
  }

  /** @throws SkeinError `protocol_violation` */
  check(frame: StreamFrame | TokensFrame): GenerateEvent {
    if (frame.type === "start") {
      if (this.#started) throw violation("it started twice");
      this.#started = true;
      return { type: "start", ...frame.body };
    }
    if (!this.#started) throw violation(`its first frame was ${frame.type}`);
    if (frame.type === "receipt" && this.#wantsReceipt) return { type: "receipt", ...frame.body };
    if (this.#ended) throw violation(`a ${frame.type} frame came after its end`);
    if (frame.type === "checkpoint" && this.#wantsReceipt) return { type: "checkpoint", ...frame.body };
    if (frame.type === "tokens") return this.#checkTokens(frame);
    if (frame.type !== "end") throw violation(`it sent a ${frame.type} frame`);
    // Engines that do not know token ids learn the count only at the end.
    const { outputTokens } = frame.body;
    if (outputTokens > this.#outputTokensMax) throw violation("it counts more tokens than allowed");
    if (this.#counted === "everything" && outputTokens !== this.#position) {
      throw violation(`it counts ${outputTokens} tokens where ${this.#position} came`);
    }
    this.#ended = true;
    return { type: "end", ...frame.body };
  }

  #checkTokens({ position, tokenCount, tokenIds, text, logprobs }: TokensFrame): GenerateEvent {
    if (position !== this.#position) {
      throw violation(`position ${position} came where ${this.#position} was due`);
    }
    if (tokenIds.length > 0 && tokenIds.length !== tokenCount) throw violation("its token count is wrong");
    if (tokenIds.length !== tokenCount) this.#counted = "something";
    else if (tokenCount > 0 && this.#counted === "nothing") this.#counted = "everything";
    this.#checkLogprobs(tokenIds, logprobs);
    this.#position += tokenCount;
    if (this.#position > this.#outputTokensMax) throw violation("it sent more tokens than allowed");
    const event = { type: "tokens", position, tokenIds, tokenCount, text } as const;
    return logprobs === undefined ? event : { ...event, logprobs };
  }

  #checkLogprobs(tokenIds: readonly number[], logprobs: TokensFrame["logprobs"]): void {
    if (this.#logprobs === null && logprobs !== undefined)
      throw violation("it sent log probabilities unasked");
    const top = this.#logprobs;
    if (top === null || tokenIds.length === 0) return;
    if (logprobs?.length !== tokenIds.length) throw violation("log probabilities are missing");
    if (logprobs.some((each) => each.top.length > top)) throw violation("it sent too many alternatives");
  }
}

function violation(why: string): SkeinError {
  return new SkeinError("protocol_violation", `The provider's answer is malformed: ${why}.`);
}
