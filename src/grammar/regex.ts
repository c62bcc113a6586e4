/**
 * Regular expressions (ECMAScript's syntax, as JSON Schema's `pattern` has it) as grammars. What only a backtracking
 * matcher can do is refused: lookaround, back references, word boundaries.
 */
import { SkeinError } from "../util/errors.ts";
import { type CharacterSet, characters, complement, everything, setOf } from "./character-set.ts";
import { either, repeatMax, repeated } from "./grammar-writer.ts";

/** How a context writes one character of a set; null where it cannot write any of them. */
export type Spelling = (set: CharacterSet) => string | null;

export const patternCharsMax = 5_000;
const depthMax = 50;

const digitSet = setOf([[0x30, 0x39]]);
const wordSet = setOf([...digitSet, [0x41, 0x5a], [0x61, 0x7a], [0x5f, 0x5f]]);
/** ECMAScript's WhiteSpace and LineTerminator. */
const spaceSet = setOf([
  ...characters("\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"),
  [0x2000, 0x200a],
]);
const classes: Readonly<Record<string, CharacterSet>> = {
  d: digitSet,
  D: complement(digitSet),
  w: wordSet,
  W: complement(wordSet),
  s: spaceSet,
  S: complement(spaceSet),
};
const controls: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", f: "\f", v: "\v", "0": "\0" };
const dot = complement(characters("\n\r\u2028\u2029"));

/**
 * What matches `pattern`. Without `^` and `$` other characters may stand before and behind it.
 * @throws SkeinError `unsupported_parameter` for what it cannot express, `invalid_request` for what is no expression
 */
export function regexGrammar(pattern: string, spelling: Spelling): string {
  if (pattern.length > patternCharsMax) {
    throw new SkeinError("invalid_request", `A pattern is longer than ${patternCharsMax} characters.`);
  }
  return new RegexReader(pattern, spelling).whole();
}

class RegexReader {
  readonly #pattern: string;
  readonly #characters: readonly string[];
  readonly #spelling: Spelling;
  #at = 0;
  #depth = 0;

  constructor(pattern: string, spelling: Spelling) {
    this.#pattern = pattern;
    this.#characters = Array.from(pattern);
    this.#spelling = spelling;
  }

  whole(): string {
    const alternatives: string[] = [];
    const others = `${this.#spell(everything)}*`;
    do {
      const isBegin = this.#take("^");
      const body = this.#sequence();
      const isEnd = this.#take("$");
      alternatives.push([...(isBegin ? [] : [others]), body, ...(isEnd ? [] : [others])].join(" "));
    } while (this.#take("|"));
    if (this.#peek() === ")") throw this.#invalid("an unmatched ')'");
    if (this.#peek() !== undefined) throw this.#unsupported("'^' or '$' in the middle");
    return either(alternatives);
  }

  #peek(): string | undefined {
    return this.#characters[this.#at];
  }

  #take(text: string): boolean {
    if (
      !this.#characters
        .slice(this.#at, this.#at + text.length)
        .join("")
        .startsWith(text)
    )
      return false;
    this.#at += text.length;
    return true;
  }

  #choice(): string {
    const alternatives = [this.#sequence()];
    while (this.#take("|")) alternatives.push(this.#sequence());
    return either(alternatives);
  }

  #sequence(): string {
    const parts: string[] = [];
    for (let next = this.#peek(); next !== undefined && !")|$^".includes(next); next = this.#peek()) {
      parts.push(this.#quantified(this.#atom()));
    }
    return parts.length === 0 ? '""' : parts.join(" ");
  }

  #quantified(atom: string): string {
    const bounds = this.#bounds();
    if (bounds === null) return atom;
    // Lazy or greedy: the same texts match.
    this.#take("?");
    if (this.#bounds() !== null) throw this.#invalid("a repeated repetition");
    const [min, max] = bounds;
    if (max !== null && max < min) throw this.#invalid("a repetition whose bounds are in the wrong order");
    return repeated(atom, min, max);
  }

  #bounds(): [number, number | null] | null {
    if (this.#take("*")) return [0, null];
    if (this.#take("+")) return [1, null];
    if (this.#take("?")) return [0, 1];
    const match = /^\{(\d+)(,(\d*))?\}/.exec(this.#characters.slice(this.#at, this.#at + 24).join(""));
    if (match === null) return null;
    this.#at += match[0].length;
    const min = Number(match[1]);
    const max = match[2] === undefined ? min : match[3] === "" ? null : Number(match[3]);
    if (min > repeatMax || (max !== null && max > repeatMax)) {
      throw this.#unsupported(`more than ${repeatMax} repetitions`);
    }
    return [min, max];
  }

  #atom(): string {
    if (this.#take("(")) return this.#group();
    if (this.#take("[")) return this.#spell(this.#class());
    if (this.#take(".")) return this.#spell(dot);
    if (this.#take("\\")) return this.#spell(this.#escape());
    const next = this.#peek()!;
    if ("*+?".includes(next)) throw this.#invalid(`nothing before '${next}'`);
    this.#at += 1;
    return this.#spell(characters(next));
  }

  #group(): string {
    if (this.#take("?") && !this.#take(":") && !this.#isNamed())
      throw this.#unsupported("lookaround or flags");
    this.#depth += 1;
    if (this.#depth > depthMax) throw this.#unsupported(`groups nested deeper than ${depthMax}`);
    const inside = this.#choice();
    this.#depth -= 1;
    const next = this.#peek();
    if (next === "^" || next === "$") throw this.#unsupported("'^' or '$' in a group");
    if (!this.#take(")")) throw this.#invalid("an unmatched '('");
    return `(${inside})`;
  }

  #isNamed(): boolean {
    const match = /^<[A-Za-z_$][\w$]*>/.exec(this.#characters.slice(this.#at, this.#at + 100).join(""));
    if (match !== null) this.#at += match[0].length;
    return match !== null;
  }

  #class(): CharacterSet {
    const isNegated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take("]")) {
      const low = this.#classItem();
      const isRange = this.#peek() === "-" && ![undefined, "]"].includes(this.#characters[this.#at + 1]);
      if (!isRange) {
        ranges.push(...low);
        continue;
      }
      this.#at += 1;
      const high = this.#classItem();
      const [from, to] = [low[0]?.[0], high[0]?.[0]];
      if (low.length !== 1 || high.length !== 1 || from !== low[0]?.[1] || to !== high[0]?.[1]) {
        throw this.#invalid("a range that does not run from one character to another");
      }
      if (to! < from!) throw this.#invalid("a range in the wrong order");
      ranges.push([from!, to!]);
    }
    const set = setOf(ranges);
    return isNegated ? complement(set) : set;
  }

  #classItem(): CharacterSet {
    const next = this.#peek();
    if (next === undefined) throw this.#invalid("an unmatched '['");
    this.#at += 1;
    if (next !== "\\") return characters(next);
    return this.#take("b") ? characters("\b") : this.#escape();
  }

  #escape(): CharacterSet {
    const next = this.#peek();
    if (next === undefined) throw this.#invalid("a '\\' at its end");
    this.#at += 1;
    const known = classes[next] ?? (controls[next] === undefined ? undefined : characters(controls[next]));
    if (known !== undefined) return known;
    const rest = this.#characters.slice(this.#at, this.#at + 10).join("");
    const match = { x: /^[0-9a-fA-F]{2}/, u: /^(?:[0-9a-fA-F]{4}|\{[0-9a-fA-F]{1,6}\})/ }[next]?.exec(rest);
    if (match != null) {
      this.#at += match[0].length;
      const codePoint = Number.parseInt(match[0].replace(/[{}]/g, ""), 16);
      return setOf(codePoint > 0x10ffff ? [] : [[codePoint, codePoint]]);
    }
    if (/[A-Za-z1-9]/.test(next)) throw this.#unsupported(`'\\${next}'`);
    return characters(next);
  }

  #spell(set: CharacterSet): string {
    const spelt = this.#spelling(set);
    if (spelt === null) throw this.#unsupported("a class without characters");
    return spelt;
  }

  #invalid(what: string): SkeinError {
    return new SkeinError("invalid_request", `The pattern ${this.#shown()} has ${what}.`);
  }

  #unsupported(what: string): SkeinError {
    return new SkeinError(
      "unsupported_parameter",
      `The pattern ${this.#shown()} has ${what}, which is not supported.`,
    );
  }

  #shown(): string {
    return JSON.stringify(this.#pattern.length > 60 ? `${this.#pattern.slice(0, 60)}…` : this.#pattern);
  }
}
