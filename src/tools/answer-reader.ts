/**
 * What a model's text says: thoughts, words for the user, and calls of functions. The text comes in pieces, and what
 * is told does not depend on how it was cut: what may become a mark is held back until it is certain.
 */
import type { FinishReason } from "../protocol/generate.ts";
import type { ThoughtFormat, ToolFormat } from "../protocol/offer.ts";
import { type CallSink, NamedCallReader, ObjectCallReader } from "./call-reader.ts";

export type Delta =
  | { readonly type: "content"; readonly text: string }
  | { readonly type: "reasoning"; readonly text: string }
  | { readonly type: "call"; readonly index: number; readonly name: string }
  /** Of the call with this index: more of the JSON. */
  | { readonly type: "arguments"; readonly index: number; readonly text: string };

/** What became certain with some characters of the text. */
export interface Step {
  /** Characters (UTF-16 units) since the step before. */
  chars: number;
  readonly deltas: Delta[];
}

export interface Reading {
  /** Null: the text can have no calls. */
  readonly calls: {
    readonly format: ToolFormat;
    /** Functions that may be called. What calls others is text. */
    readonly names: ReadonlySet<string>;
    /** More calls than these are left out. */
    readonly callsMax: number;
  } | null;
  /** Null: the text has no thoughts. */
  readonly thoughts: ThoughtFormat | null;
}

const thoughtsOpen = "<think>";
const thoughtsClose = "</think>";
/** What begins calls; the marks' first characters come in them once. */
const callMarks: Readonly<Record<ToolFormat, string>> = {
  hermes: "<tool_call>",
  llama3: "<|python_tag|>",
  mistral: "[TOOL_CALLS]",
  mistral_args: "[TOOL_CALLS]",
  generic: "<|python_tag|>",
};
const hermesClose = "</tool_call>";
const space = /\s/;

type State =
  /** Only before anything else: are there thoughts? */
  | "begin"
  | "thoughts"
  | "text"
  | "call"
  /** Behind a call of Hermes' format. */
  | "close"
  /** Behind Mistral's mark, then between calls in a list. */
  | "listOrName"
  | "list"
  /** Behind a call in plain JSON. */
  | "json";

export class AnswerReader {
  readonly #reading: Reading;
  #state: State;
  /** White space that is told only if text follows. */
  #space = "";
  /** A mark's beginning. */
  #match = "";
  /** All of what may be a call, as long as that is not certain. */
  #raw = "";
  #call: ObjectCallReader | NamedCallReader | null = null;
  #hasBegun = false;
  #calls = 0;
  #isInList = false;
  /** Whether text was told. */
  #hasText = false;
  #hasThoughts = false;
  #isBehindCall = false;
  #steps: Step[] = [];
  #toldNow = false;
  readonly #sink: CallSink = {
    knows: (name) => this.#reading.calls?.names.has(name) === true,
    begin: (name) => {
      this.#hasBegun = true;
      this.#raw = "";
      this.#calls += 1;
      if (this.#isCounted()) this.#tell({ type: "call", index: this.#calls - 1, name });
    },
    arguments: (text) => {
      if (this.#isCounted()) this.#tell({ type: "arguments", index: this.#calls - 1, text });
    },
  };

  constructor(reading: Reading) {
    this.#reading = reading;
    this.#state = reading.thoughts === null ? "text" : "begin";
  }

  /** Calls so far. */
  get calls(): number {
    return Math.min(this.#calls, this.#reading.calls?.callsMax ?? 0);
  }

  /** What became certain, in steps of one kind each; the characters of all steps are those of `text`. */
  push(text: string): readonly Step[] {
    this.#steps = [];
    if (text === "") return this.#steps;
    this.#steps.push({ chars: 0, deltas: [] });
    for (let i = 0; i < text.length; i++) {
      this.#steps.at(-1)!.chars += 1;
      this.#toldNow = false;
      this.#take(text[i]!);
    }
    return this.#steps;
  }

  /** What was held back. */
  end(finishReason: FinishReason): readonly Delta[] {
    this.#steps = [{ chars: 1, deltas: [] }];
    // All in one step.
    this.#toldNow = true;
    const held = this.#space + this.#match;
    switch (this.#state) {
      case "begin":
        if (this.#reading.thoughts === "opened") this.#tellThought(this.#match);
        else this.#tellText(held);
        break;
      case "thoughts":
        this.#tellThought(this.#match);
        break;
      case "text":
        // Behind a call another one was about to come.
        if (!this.#isBehindCall || (this.#match !== "" && finishReason === "stop")) this.#tellText(held);
        break;
      case "call":
      case "listOrName":
        this.#call?.rest();
        // A call that was cut before it was one tells nothing; whatever else is no call is text.
        if (!this.#hasBegun && !(finishReason === "length" && this.#isMarked())) this.#tellText(this.#raw);
        break;
      default:
    }
    return this.#steps[0]!.deltas;
  }

  #take(character: string): void {
    switch (this.#state) {
      case "begin":
        return this.#atBeginning(character);
      case "thoughts":
        return this.#inThoughts(character);
      case "text":
        return this.#inText(character);
      case "call":
        return this.#inCall(character);
      case "close":
        return this.#inClose(character);
      default:
        return this.#aroundCalls(character);
    }
  }

  #atBeginning(character: string): void {
    if (this.#match === "" && space.test(character)) {
      this.#space += character;
      return;
    }
    this.#match += character;
    if (this.#match === thoughtsOpen) return this.#enter("thoughts");
    if (thoughtsOpen.startsWith(this.#match)) return;
    const held = this.#match;
    const before = this.#space;
    this.#enter(this.#reading.thoughts === "opened" ? "thoughts" : "text");
    this.#space = before;
    for (const each of held) this.#take(each);
  }

  #inThoughts(character: string): void {
    this.#hasThoughts = true;
    if (this.#match !== "") {
      this.#match += character;
      if (this.#match === thoughtsClose) return this.#enter("text");
      if (thoughtsClose.startsWith(this.#match)) return;
      const held = this.#match.slice(0, -1);
      this.#match = "";
      this.#tellThought(this.#space + held);
      this.#space = "";
    }
    if (character === thoughtsClose[0]) this.#match = character;
    else if (space.test(character)) this.#space += character;
    else {
      this.#tellThought(this.#space + character);
      this.#space = "";
    }
  }

  #inText(character: string): void {
    const { calls } = this.#reading;
    if (calls === null) {
      // Behind thoughts stand line breaks.
      if (!this.#hasText && this.#hasThoughts && space.test(character)) return;
      this.#tellText(this.#space + character);
      this.#space = "";
      return;
    }
    const mark = callMarks[calls.format];
    if (this.#match !== "") {
      this.#match += character;
      if (this.#match === mark) return this.#open(this.#match);
      if (mark.startsWith(this.#match)) return;
      const held = this.#space + this.#match.slice(0, -1);
      this.#enter("text");
      this.#tellText(held);
    }
    if (character === mark[0] && this.#mayOpen()) this.#match = character;
    else if (space.test(character)) this.#space += character;
    else if (character === "{" && isPlain(calls.format) && !this.#hasText) {
      this.#open("");
      this.#inCall(character);
    } else {
      const held = this.#space + character;
      this.#space = "";
      this.#tellText(held);
    }
  }

  /** Plain JSON is a call only where nothing else was said. */
  #mayOpen(): boolean {
    return !isPlain(this.#reading.calls!.format) || !this.#hasText;
  }

  #open(mark: string): void {
    const { format } = this.#reading.calls!;
    const raw = this.#space + mark;
    const isList = format === "mistral" || format === "mistral_args";
    this.#enter(isList ? "listOrName" : "call");
    this.#raw = raw;
    this.#hasBegun = false;
    this.#isInList = false;
    this.#call = isList ? null : new ObjectCallReader(this.#sink);
  }

  #inCall(character: string): void {
    if (!this.#hasBegun) this.#raw += character;
    const outcome = this.#call!.push(character);
    if (outcome === "more") return;
    if (outcome === "failed") {
      const { format } = this.#reading.calls!;
      // Another kind of value in JSON, such as a list: then it is an answer in JSON.
      const raw = this.#raw;
      this.#enter("text");
      this.#tellText(raw);
      if (isPlain(format)) this.#hasText = true;
      return;
    }
    this.#enter(this.#behindCall());
    this.#isBehindCall = true;
    if (outcome === "behind") this.#take(character);
  }

  #behindCall(): State {
    const { format } = this.#reading.calls!;
    if (format === "hermes") return "close";
    if (isPlain(format)) return "json";
    return this.#isInList ? "list" : "text";
  }

  #inClose(character: string): void {
    if (this.#match === "" && space.test(character)) {
      this.#space += character;
      return;
    }
    this.#match += character;
    if (this.#match === hermesClose) return this.#enter("text");
    if (hermesClose.startsWith(this.#match)) return;
    // Some models leave it out, before the next call for example.
    const held = this.#match;
    this.#state = "text";
    this.#match = "";
    for (const each of held) this.#take(each);
  }

  #aroundCalls(character: string): void {
    if (this.#state === "listOrName") {
      this.#raw += character;
      if (space.test(character)) return;
      this.#state = "call";
      this.#isInList = character === "[";
      this.#call = this.#isInList ? new ObjectCallReader(this.#sink) : new NamedCallReader(this.#sink);
      if (this.#isInList) return;
      // It is in `raw` already.
      this.#raw = this.#raw.slice(0, -1);
      return this.#inCall(character);
    }
    const isList = this.#state === "list";
    if (space.test(character) || character === "," || (!isList && character === ";")) return;
    if (isList && character === "]") return this.#enter("text");
    if (character === "{") {
      this.#enter("call");
      this.#hasBegun = false;
      this.#call = new ObjectCallReader(this.#sink);
      return this.#inCall(character);
    }
    this.#enter("text");
    this.#take(character);
  }

  /** Whether what is being read has a mark that nothing but a call has, or a function's name, or stands behind a call. */
  #isMarked(): boolean {
    return !isPlain(this.#reading.calls!.format) || this.#calls > 0 || this.#call?.isNamed === true;
  }

  #enter(state: State): void {
    this.#state = state;
    this.#match = "";
    this.#space = "";
    this.#raw = "";
  }

  #isCounted(): boolean {
    return this.#calls <= this.#reading.calls!.callsMax;
  }

  #tellText(text: string): void {
    // White space around thoughts and calls belongs to them.
    const own = !this.#hasText && (this.#hasThoughts || this.#calls > 0) ? text.trimStart() : text;
    if (own === "") return;
    this.#hasText = true;
    this.#isBehindCall = false;
    this.#tell({ type: "content", text: own });
  }

  #tellThought(text: string): void {
    const own = this.#toldThoughts ? text : text.trimStart();
    if (own === "") return;
    this.#toldThoughts = true;
    this.#tell({ type: "reasoning", text: own });
  }
  #toldThoughts = false;

  #tell(delta: Delta): void {
    let step = this.#steps.at(-1)!;
    const last = step.deltas.at(-1);
    const more = last === undefined ? null : joined(last, delta);
    if (more !== null) step.deltas[step.deltas.length - 1] = more;
    else {
      if (last !== undefined && !this.#toldNow) {
        // This character begins another kind.
        step.chars -= 1;
        step = { chars: 1, deltas: [] };
        this.#steps.push(step);
      }
      step.deltas.push(delta);
    }
    this.#toldNow = true;
  }
}

/** Both as one; null: they are of different kinds. */
function joined(last: Delta, delta: Delta): Delta | null {
  if (last.type === "call" || delta.type === "call" || last.type !== delta.type) return null;
  if (last.type === "arguments" && delta.type === "arguments" && last.index !== delta.index) return null;
  return { ...last, text: last.text + delta.text };
}

/** Formats without a mark. */
function isPlain(format: ToolFormat): boolean {
  return format === "llama3" || format === "generic";
}

/** An answer as a whole. */
export interface ReadAnswer {
  readonly content: string;
  readonly reasoning: string;
  readonly calls: readonly { readonly name: string; readonly arguments: string }[];
}

export function readAnswer(reading: Reading, text: string, finishReason: FinishReason): ReadAnswer {
  const reader = new AnswerReader(reading);
  const told = [...reader.push(text).flatMap(({ deltas }) => deltas), ...reader.end(finishReason)];
  let content = "";
  let reasoning = "";
  const calls: { name: string; arguments: string }[] = [];
  for (const delta of told) {
    if (delta.type === "content") content += delta.text;
    else if (delta.type === "reasoning") reasoning += delta.text;
    else if (delta.type === "call") calls.push({ name: delta.name, arguments: "" });
    else calls[delta.index]!.arguments += delta.text;
  }
  return { content, reasoning, calls };
}
