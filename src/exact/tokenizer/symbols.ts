/** Texts as numbers: tokens have their ids, other texts that take part in merging get numbers beyond. */
export class Symbols {
  readonly #numbers: Map<string, number>;
  readonly #tokenCount: number;
  readonly #others: string[] = [];

  constructor(idOf: ReadonlyMap<string, number>, tokenCount: number) {
    this.#numbers = new Map(idOf);
    this.#tokenCount = tokenCount;
  }

  of(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    const fresh = this.#tokenCount + this.#others.length;
    this.#others.push(text);
    this.#numbers.set(text, fresh);
    return fresh;
  }

  /** Texts that are no token become those that `spellOut` gives. */
  toTokens(symbols: Int32Array, spellOut: (text: string) => readonly number[]): Int32Array {
    if (symbols.every((symbol) => symbol < this.#tokenCount)) return symbols;
    const tokens: number[] = [];
    const spelled = new Map<number, readonly number[]>();
    for (const symbol of symbols) {
      if (symbol < this.#tokenCount) {
        tokens.push(symbol);
        continue;
      }
      let others = spelled.get(symbol);
      if (others === undefined) spelled.set(symbol, (others = spellOut(this.#textOf(symbol))));
      for (const other of others) tokens.push(other);
    }
    return Int32Array.from(tokens);
  }

  /** The symbol of a character; not remembered when it is new, or users would fill the memory. */
  ofCharacter(character: string): number {
    return this.#numbers.get(character) ?? unknownSymbols + character.codePointAt(0)!;
  }

  #textOf(symbol: number): string {
    return symbol >= unknownSymbols
      ? String.fromCodePoint(symbol - unknownSymbols)
      : this.#others[symbol - this.#tokenCount]!;
  }
}

/** Beyond the symbols of any vocabulary. */
const unknownSymbols = 2 ** 30;

/** Words and what they became; users' words must not fill the memory. */
export class WordCache {
  readonly #words = new Map<string, Int32Array>();

  get(word: string): Int32Array | undefined {
    return this.#words.get(word);
  }

  set(word: string, tokens: Int32Array): void {
    if (word.length > cachedWordLengthMax) return;
    if (this.#words.size >= cachedWordsMax) this.#words.clear();
    this.#words.set(word, tokens);
  }
}

/** Nearly all words of all languages that write spaces; V8 makes longer ones refer to the whole text they are from. */
const cachedWordLengthMax = 12;
/** A few MB. */
const cachedWordsMax = 20_000;
