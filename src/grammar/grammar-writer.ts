/**
 * Writes grammars in the EBNF that XGrammar reads: rules of literals, character classes, sequences, alternatives and
 * bounded repetitions. Everything here is a text; a rule that was written already is used again.
 */
import { grammarCharsMax } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";

/** Beyond it nobody notices a difference: contexts end sooner. */
export const repeatMax = 10_000;

export class GrammarWriter {
  readonly #rules = new Map<string, string>();
  readonly #names = new Map<string, string>();
  #chars = 0;

  /** Names `body` as a rule, once. @throws SkeinError `invalid_request` when the grammar becomes too large */
  rule(body: string): string {
    const known = this.#names.get(body);
    if (known !== undefined) return known;
    const name = this.reserve();
    this.define(name, body);
    this.#names.set(body, name);
    return name;
  }

  /** A name to be defined later, for what refers to itself. */
  reserve(): string {
    const name = `r${this.#rules.size}`;
    this.#rules.set(name, "");
    return name;
  }

  define(name: string, body: string): void {
    this.#rules.set(name, body);
    this.#chars += name.length + body.length + 6;
    if (this.#chars <= grammarCharsMax) return;
    throw new SkeinError("invalid_request", `The grammar is longer than ${grammarCharsMax} characters.`, {
      hint: "Ask for something simpler.",
    });
  }

  /** The whole grammar. */
  text(root: string): string {
    const rules = [...this.#rules].map(([name, body]) => `${name} ::= ${body}\n`);
    return `root ::= ${root}\n${rules.join("")}`;
  }
}

/** What matches `text` and nothing else. */
export function literal(text: string): string {
  if (text === "") return '""';
  return `"${Array.from(text, (character) => (/[\w !#-/:-@[\]^`{-~]/.test(character) ? character : escaped(character))).join("")}"`;
}

/** One of several; each is a text that stands for itself. */
export function either(alternatives: readonly string[]): string {
  return alternatives.length === 1 ? alternatives[0]! : `(${alternatives.join(" | ")})`;
}

/** `item` from `min` to `max` times; null: any number. */
export function repeated(item: string, min: number, max: number | null): string {
  if (max === null) return min === 0 ? `${item}*` : min === 1 ? `${item}+` : `${item}{${min},}`;
  if (max === 0) return '""';
  return min === 1 && max === 1 ? item : min === 0 && max === 1 ? `${item}?` : `${item}{${min},${max}}`;
}

function escaped(character: string): string {
  const hex = character.codePointAt(0)!.toString(16);
  return hex.length <= 4 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}
