/**
 * cborg's tokens, held to what its strict mode leaves open: bounds on depth and counts, keys in order,
 * shortest floats, and text that is UTF-8 and keeps its byte order mark.
 */
import { type DecodeOptions, encode, rfc8949EncodeOptions, type Token, Tokenizer, Type } from "cborg";

/** Our deepest message has 4 levels; the recursion of a decoder must not follow a stranger's bytes. */
const depthMax = 16;
/** Entries of one map: no message has more than a dozen fields. */
const mapEntriesMax = 32;
/** Values other than token ids and counts: 10,000 chat messages of three fields, keys included, fit. */
const otherValuesMax = 80_000;
/** Numbers with a fraction: a bias of 1,024 tokens and a dozen others. Each is encoded again to see its shortest form. */
const fractionsMax = 1_088;

interface Container {
  readonly isMap: boolean;
  /** Values still to come, keys included. */
  left: number;
  /** Encoded form of the newest key. */
  key: Uint8Array;
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const nothing = new Uint8Array(0);

export class CanonicalTokenizer extends Tokenizer {
  readonly #open: Container[] = [];
  readonly #valuesMax: number;
  /** Values seen or announced by the lengths of lists and maps. */
  #values = 1;
  #otherValues = 0;
  #fractions = 0;
  /** Values that open lists and maps still have to bring. */
  #due = 0;

  constructor(data: Uint8Array, options: DecodeOptions, valuesMax: number) {
    super(data, options);
    this.#valuesMax = valuesMax;
  }

  override next(): Token {
    const start = this.pos();
    let token = super.next();
    if (token.type !== Type.uint && ++this.#otherValues > otherValuesMax) {
      throw new RangeError("too many values");
    }
    if (token.type === Type.string) token = this.#exactText(token, start);
    if (token.type === Type.float) this.#checkFraction(token, start);
    this.#count(token, start);
    return token;
  }

  #checkFraction(token: Token, start: number): void {
    if (++this.#fractions > fractionsMax) throw new RangeError("too many fractions");
    // Whole numbers are no fractions, also where both forms are as long as each other.
    const shortest = encode(token.value, rfc8949EncodeOptions);
    if (compareBytes(shortest, this.data.subarray(start, this.pos())) === 0) return;
    throw new RangeError("a number has another form than its shortest");
  }

  /** cborg drops a byte order mark and replaces what is not UTF-8. */
  #exactText(token: Token, start: number): Token {
    const text = String(token.value);
    const encoded = this.data.subarray(start, this.pos());
    const bytes = encoded.subarray(headBytes(encoded[0]!));
    const isAscii = text.length === bytes.length && !/[^\0-\x7f]/.test(text);
    if (!isAscii) token.value = strictUtf8.decode(bytes);
    return token;
  }

  /** Keeps account of where in the nesting this token stands. */
  #count(token: Token, start: number): void {
    const open = this.#open;
    const parent = open.at(-1);
    if (parent !== undefined) {
      if (parent.isMap && parent.left % 2 === 0) this.#checkKey(parent, token, start);
      parent.left -= 1;
      this.#due -= 1;
    }
    const isMap = token.type === Type.map;
    if (isMap && token.value > mapEntriesMax) throw new RangeError("too many fields");
    if (isMap || token.type === Type.array) {
      const left = isMap ? 2 * token.value : token.value;
      open.push({ isMap, left, key: nothing });
      if (open.length > depthMax) throw new RangeError("nested too deeply");
      this.#announce(left);
    }
    while (open.at(-1)?.left === 0) open.pop();
  }

  /** Refuses a list by its length, before one item of it is built. */
  #announce(values: number): void {
    this.#values += values;
    this.#due += values;
    if (this.#values > this.#valuesMax) throw new RangeError("too many values");
    // Every value has at least one byte.
    if (this.#due > this.data.length - this.pos()) throw new RangeError("a list is longer than the message");
  }

  /** Keys ascend, by the bytes of their encoding: so they are unique as well. */
  #checkKey(map: Container, token: Token, start: number): void {
    if (token.type !== Type.string) throw new RangeError("a key is not text");
    const key = this.data.subarray(start, this.pos());
    if (compareBytes(map.key, key) >= 0) throw new RangeError("keys are not in order");
    map.key = key;
  }
}

/** Bytes before the text, from the first byte's low bits (RFC 8949, section 3). */
function headBytes(first: number): number {
  const information = first & 31;
  return information < 24 ? 1 : 1 + 2 ** (information - 24);
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!;
  }
  return a.length - b.length;
}
