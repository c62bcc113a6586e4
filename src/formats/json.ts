/**
 * JSON (RFC 8259) from files that nobody vouches for. Unlike `JSON.parse` it refuses repeated keys, which programs
 * understand differently, and ends after a bounded number of levels and values: a few bytes of text may otherwise
 * take a hundred times their memory.
 */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

export interface JsonLimits {
  readonly depthMax: number;
  readonly valuesMax: number;
}

/** The message completes a sentence that begins with the file's name. */
export class BrokenJson extends Error {}

/** @throws BrokenJson */
export function parseJson(bytes: Uint8Array, limits: JsonLimits): JsonValue {
  let text: string;
  try {
    text = strictUtf8.decode(bytes);
  } catch (error) {
    throw new BrokenJson("is not UTF-8", { cause: error });
  }
  return new JsonParser(text, limits).parse();
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const space = /[ \t\n\r]*/y;
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const literals = { true: true, false: false, null: null } as const;

class JsonParser {
  readonly #text: string;
  readonly #limits: JsonLimits;
  #at = 0;
  #values = 0;

  constructor(text: string, limits: JsonLimits) {
    this.#text = text;
    this.#limits = limits;
  }

  parse(): JsonValue {
    const value = this.#value(0);
    this.#skipSpace();
    if (this.#at < this.#text.length) throw this.#broken();
    return value;
  }

  #value(depth: number): JsonValue {
    const { depthMax, valuesMax } = this.#limits;
    if (depth > depthMax) throw new BrokenJson(`has JSON of more than ${depthMax} levels`);
    if (++this.#values > valuesMax) throw new BrokenJson(`has JSON of more than ${valuesMax} values`);
    this.#skipSpace();
    const first = this.#text[this.#at];
    if (first === "{") return this.#object(depth);
    if (first === "[") return this.#array(depth);
    if (first === '"') return this.#string();
    for (const [name, value] of Object.entries(literals)) {
      if (this.#text.startsWith(name, this.#at)) {
        this.#at += name.length;
        return value;
      }
    }
    return this.#number();
  }

  #object(depth: number): JsonValue {
    const result: Record<string, JsonValue> = {};
    this.#elements("}", () => {
      const key = this.#string();
      if (Object.hasOwn(result, key)) throw new BrokenJson(`has the key ${shortened(key)} twice`);
      this.#skipSpace();
      if (this.#text[this.#at] !== ":") throw this.#broken();
      this.#at += 1;
      const value = this.#value(depth + 1);
      // An assignment to this one key would not create it.
      if (key === "__proto__") {
        Object.defineProperty(result, key, { value, enumerable: true, configurable: true, writable: true });
      } else result[key] = value;
    });
    return result;
  }

  #array(depth: number): JsonValue {
    const result: JsonValue[] = [];
    this.#elements("]", () => result.push(this.#value(depth + 1)));
    return result;
  }

  /** What stands between brackets, with commas between. */
  #elements(close: string, read: () => unknown): void {
    this.#at += 1;
    this.#skipSpace();
    if (this.#text[this.#at] === close) {
      this.#at += 1;
      return;
    }
    for (;;) {
      this.#skipSpace();
      read();
      this.#skipSpace();
      const next = this.#text[this.#at];
      if (next !== close && next !== ",") throw this.#broken();
      this.#at += 1;
      if (next === close) return;
    }
  }

  #string(): string {
    const start = this.#at;
    if (this.#text[start] !== '"') throw this.#broken();
    let end = start + 1;
    while (end < this.#text.length && this.#text[end] !== '"') end += this.#text[end] === "\\" ? 2 : 1;
    try {
      // Escapes and control characters are its business; the text is one string or nothing.
      const value = JSON.parse(this.#text.slice(start, end + 1)) as string;
      this.#at = end + 1;
      return value;
    } catch {
      throw this.#broken();
    }
  }

  #number(): number {
    number.lastIndex = this.#at;
    const match = number.exec(this.#text);
    if (match === null) throw this.#broken();
    this.#at += match[0].length;
    return Number(match[0]);
  }

  #skipSpace(): void {
    space.lastIndex = this.#at;
    space.test(this.#text);
    this.#at = space.lastIndex;
  }

  #broken(): BrokenJson {
    return new BrokenJson(`has broken JSON at character ${this.#at}`);
  }
}

function shortened(key: string): string {
  return JSON.stringify(key.slice(0, 80));
}
