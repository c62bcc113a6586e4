/** UTF-8 bytes of one token; part of a character where the vocabulary splits characters. */
export type PieceTable = (token: number) => Uint8Array;

/** Tokens in, whole characters out; what is still incomplete at the end becomes U+FFFD. */
export class PieceDecoder {
  readonly #pieces: PieceTable;
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(pieces: PieceTable) {
    this.#pieces = pieces;
  }

  push(token: number): string {
    return this.#utf8.decode(this.#pieces(token), { stream: true });
  }

  flush(): string {
    return this.#utf8.decode();
  }
}
