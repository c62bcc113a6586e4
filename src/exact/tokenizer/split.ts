/** Cuts text into words by the steps of a pre-tokenizer, in linear time whatever the text. */
import { classBytes, type Step } from "./pre-tokenizers.ts";
import { unicodeClassRuns } from "./unicode-classes.ts";

export type Split = (text: string) => string[];

/** One character for each code point of a text; the offsets of segments count these. */
type View = string;
/** For each code point the byte that stands for it in a view. */
type ByteTable = Uint8Array;

const codePoints = 0x110000;
const latin1 = new TextDecoder("windows-1252");

export function createSplit(steps: readonly Step[]): Split {
  const tables = steps.map((step) => (step instanceof RegExp ? classTable() : setTable(step.set)));
  const expressions = steps.map((step) => (step instanceof RegExp ? step : step.expression));
  return (text) => {
    const views = new Map<ByteTable, View>();
    let ends: number[] = [];
    for (const [i, expression] of expressions.entries()) {
      const table = tables[i]!;
      const view = views.get(table) ?? viewOf(text, table);
      views.set(table, view);
      if (i === 0) ends = [view.length];
      ends = cut(view, ends, expression);
    }
    return wordsOf(text, ends);
  };
}

let classes: ByteTable | undefined;

function classTable(): ByteTable {
  if (classes !== undefined) return classes;
  const table = new Uint8Array(codePoints);
  let start = 0;
  for (const [, letter, length] of unicodeClassRuns.matchAll(/([A-Z])([0-9a-z]*)/g)) {
    const end = start + (length === "" ? 1 : Number.parseInt(length!, 36));
    table.fill(classBytes[letter as keyof typeof classBytes], start, end);
    start = end;
  }
  for (let ascii = 0; ascii < 0x80; ascii++) table[ascii] = ascii;
  classes = table;
  return table;
}

/** `set` is written like the inside of `[…]`. */
function setTable(set: string): ByteTable {
  const table = new Uint8Array(codePoints).fill("-".charCodeAt(0));
  for (const [, first, last] of set.matchAll(/(.)(?:-(.))?/gsu)) {
    table.fill("x".charCodeAt(0), first!.codePointAt(0), (last ?? first!).codePointAt(0)! + 1);
  }
  // Whitespace is never in a set, as in llama.cpp, where it has become a vertical tab by then.
  const whitespace = classBytes.W;
  const all = classTable();
  for (let code = 0; code < codePoints; code++) {
    if (all[code] === whitespace || (code < 0x80 && /\s/.test(String.fromCharCode(code)))) {
      table[code] = whitespace;
    }
  }
  return table;
}

function viewOf(text: string, table: ByteTable): View {
  const bytes = new Uint8Array(text.length);
  let length = 0;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if ((unit & 0xfc00) === 0xd800) {
      const code = text.codePointAt(at)!;
      bytes[length++] = table[code]!;
      if (code > 0xffff) at++;
    } else {
      bytes[length++] = table[unit]!;
    }
  }
  return latin1.decode(bytes.subarray(0, length));
}

/** Every match becomes a segment, and so does what stands between two. */
function cut(view: View, ends: readonly number[], expression: RegExp): number[] {
  const cutEnds: number[] = [];
  let start = 0;
  for (const end of ends) {
    // Of its own, for an expression that looks ahead must not look beyond the segment.
    const segment = ends.length === 1 ? view : view.slice(start, end);
    let last = 0;
    expression.lastIndex = 0;
    for (let match = expression.exec(segment); match !== null; match = expression.exec(segment)) {
      if (match.index > last) cutEnds.push(start + match.index);
      last = match.index + match[0].length;
      cutEnds.push(start + last);
    }
    if (start + last < end) cutEnds.push(end);
    start = end;
  }
  return cutEnds;
}

function wordsOf(text: string, ends: readonly number[]): string[] {
  const hasPairs = ends.at(-1) !== text.length;
  let start = 0;
  let codes = 0;
  return ends.map((codesEnd) => {
    let end = codesEnd;
    if (hasPairs) {
      for (end = start; codes < codesEnd; codes++) end += text.codePointAt(end)! > 0xffff ? 2 : 1;
    }
    const word = text.slice(start, end);
    start = end;
    return word;
  });
}
