/**
 * Turns a growing list of token ids into text that is never half a character. Tokens of byte-level
 * vocabularies may end inside a UTF-8 character; such text ends in U+FFFD and is held back until the
 * character is complete.
 */
const replacement = "\uFFFD";
/** A UTF-8 character has at most 4 bytes; a longer run of undecodable tokens is really undecodable. */
const heldTokensMax = 8;

export class IncrementalDecoder {
  readonly #decode: (tokenIds: readonly number[]) => string;
  /** Context that fixes how the first new token is spelled (leading spaces); never emitted. */
  #window: number[];
  #windowText: string;
  #held = 0;

  /**
   * @param decode text of whole token lists, with U+FFFD for incomplete characters
   * @param context the last few tokens before the first that will be added
   */
  constructor(decode: (tokenIds: readonly number[]) => string, context: readonly number[]) {
    this.#decode = decode;
    this.#window = context.slice(-4);
    this.#windowText = decode(this.#window);
  }

  /** Adds one token; returns the text that became certain. */
  push(tokenId: number): string {
    this.#window.push(tokenId);
    this.#held += 1;
    const text = this.#decode(this.#window);
    if (text.endsWith(replacement) && this.#held < heldTokensMax) return "";
    return this.#emit(text);
  }

  /** The end: incomplete characters become U+FFFD. */
  flush(): string {
    return this.#held === 0 ? "" : this.#emit(this.#decode(this.#window));
  }

  #emit(text: string): string {
    const fresh = text.slice(this.#windowText.length);
    // The new window is what was just emitted: enough context for the spelling of the next token.
    this.#window = this.#window.slice(-Math.max(this.#held, 2));
    this.#windowText = this.#decode(this.#window);
    this.#held = 0;
    return fresh;
  }
}
