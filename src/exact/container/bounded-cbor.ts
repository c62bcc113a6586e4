/**
 * CBOR whose lists are bounded before one item of them is built: a value takes one byte of a file, but dozens of bytes
 * of memory. `protocol/cbor.ts` cannot do it: its bounds are those of messages.
 */
import { decode, type DecodeOptions, type Token, Tokenizer, Type } from "cborg";

export interface CborBounds {
  /** Maps in all, the outermost one included. */
  readonly mapsMax: number;
  /** For each key behind which a list may stand, how many items it may have. */
  readonly listItemsMax: Readonly<Record<string, number>>;
}

/** Entries of one map: the most that a header has are the shape's. */
const mapEntriesMax = 32;

/** @throws Error with a reason */
export function decodeBounded(bytes: Uint8Array, bounds: CborBounds): unknown {
  const options = { strict: true, allowIndefinite: false, rejectDuplicateMapKeys: true };
  return decode(bytes, { ...options, tokenizer: new BoundedTokenizer(bytes, options, bounds) });
}

/** Maps and lists are counted, so their nesting is bounded as well. */
class BoundedTokenizer extends Tokenizer {
  readonly #bounds: CborBounds;
  readonly #itemsMaxOf: ReadonlyMap<string, number>;
  #maps = 0;
  #lists = 0;
  #previous: Token | null = null;

  constructor(data: Uint8Array, options: DecodeOptions, bounds: CborBounds) {
    super(data, options);
    this.#bounds = bounds;
    this.#itemsMaxOf = new Map(Object.entries(bounds.listItemsMax));
  }

  override next(): Token {
    const token = super.next();
    if (token.type === Type.map) this.#enterMap(token.value);
    else if (token.type === Type.array) this.#enterList(token.value);
    this.#previous = token;
    return token;
  }

  #enterMap(entries: number): void {
    this.#maps += 1;
    if (this.#maps > this.#bounds.mapsMax) throw new RangeError("too many maps");
    if (entries > mapEntriesMax) throw new RangeError("too many fields");
  }

  #enterList(items: number): void {
    const previous = this.#previous;
    const key = previous !== null && previous.type === Type.string ? String(previous.value) : null;
    const itemsMax = key === null ? undefined : this.#itemsMaxOf.get(key);
    this.#lists += 1;
    if (itemsMax === undefined || this.#lists > this.#itemsMaxOf.size) {
      throw new RangeError("a list where none belongs");
    }
    if (items > itemsMax) throw new RangeError(`${items} ${key}; at most ${itemsMax} are possible`);
  }
}
