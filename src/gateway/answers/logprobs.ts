/** Log probabilities beside the text that they belong to: as it is streamed, and in OpenAI's two shapes. */
import type { ScoredToken, TokenLogprob } from "../../protocol/generate.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import { utf8 } from "../../util/bytes.ts";

/** A piece of text that became certain, and its tokens' log probabilities; null: not asked for. */
export interface Piece {
  readonly text: string;
  readonly logprobs: readonly PlacedLogprob[] | null;
  /** Of who said it; null where there is no text. */
  readonly offer: ModelOffer | null;
}

export interface PlacedLogprob extends TokenLogprob {
  /** Characters of the answer before the token. */
  readonly textOffset: number;
}

/**
 * Holds back what belongs to text that is held back: of tokens behind a stop sequence nothing is told, and of the others
 * once their text begins to be certain.
 */
export class LogprobQueue {
  readonly #told: PlacedLogprob[] = [];
  #waiting: { readonly start: number; readonly placed: PlacedLogprob }[] = [];
  #decoder = new TextDecoder();
  #added = 0;
  #bytesIn = 0;
  #bytesOut = 0;
  #chars = 0;

  /** Everything that was told so far. */
  get told(): readonly PlacedLogprob[] {
    return this.#told;
  }

  /**
   * What can be told with `text`.
   * @param all of the answer so far; fewer than before where it began anew
   */
  release(all: readonly TokenLogprob[], text: string): PlacedLogprob[] {
    this.#add(all);
    this.#bytesOut += utf8(text).length;
    return this.#tell(this.#waiting.findIndex(({ start }) => start >= this.#bytesOut));
  }

  /** The answer is over. @param isWhole no stop sequence can have cut it */
  rest(all: readonly TokenLogprob[], isWhole: boolean): PlacedLogprob[] {
    this.#add(all);
    return isWhole ? this.#tell(-1) : [];
  }

  #add(all: readonly TokenLogprob[]): void {
    if (all.length < this.#added) this.#restart();
    for (const logprob of all.slice(this.#added)) {
      this.#waiting.push({ start: this.#bytesIn, placed: { ...logprob, textOffset: this.#chars } });
      this.#bytesIn += logprob.bytes.length;
      this.#chars += this.#decoder.decode(logprob.bytes, { stream: true }).length;
    }
    this.#added = all.length;
  }

  #restart(): void {
    this.#told.length = this.#added = this.#bytesIn = this.#bytesOut = this.#chars = 0;
    this.#waiting = [];
    this.#decoder = new TextDecoder();
  }

  /** @param end −1: all */
  #tell(end: number): PlacedLogprob[] {
    const taken = this.#waiting
      .splice(0, end === -1 ? this.#waiting.length : end)
      .map(({ placed }) => placed);
    for (const each of taken) this.#told.push(each);
    return taken;
  }
}

/** Of `chat.completion`. */
export function chatLogprobs(logprobs: readonly PlacedLogprob[] | null) {
  if (logprobs === null) return null;
  const content = logprobs.map(({ top, ...token }) => ({
    ...chatToken(token),
    top_logprobs: top.map(chatToken),
  }));
  return { content, refusal: null };
}

const lossy = new TextDecoder();
const strict = new TextDecoder("utf-8", { fatal: true });

function chatToken({ bytes, logprob }: ScoredToken) {
  return { token: lossy.decode(bytes), logprob, bytes: [...bytes] };
}

/** Of `text_completion`. */
export function textLogprobs(logprobs: readonly PlacedLogprob[] | null) {
  if (logprobs === null) return null;
  return {
    tokens: logprobs.map(tokenName),
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) =>
      Object.fromEntries(top.map((each) => [tokenName(each), each.logprob])),
    ),
    text_offset: logprobs.map(({ textOffset }) => textOffset),
  };
}

/** Parts of characters have names, as OpenAI gives them. */
function tokenName({ bytes }: ScoredToken): string {
  try {
    return strict.decode(bytes);
  } catch {
    return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
  }
}
