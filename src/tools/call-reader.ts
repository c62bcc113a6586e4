/** Readers of one function call, character by character: what is certain is told at once, and never taken back. */

export interface CallSink {
  /** Whether a function of this name may be called. */
  readonly knows: (name: string) => boolean;
  /** It is a call: from here on nothing of it is text. */
  readonly begin: (name: string) => void;
  /** More of its arguments. */
  readonly arguments: (text: string) => void;
}

/** `failed`: this is no call, and nothing was told of it. `behind`: it ended before this character. */
export type Outcome = "more" | "done" | "behind" | "failed";

const nameCharsMax = 64;
const keyCharsMax = 32;
const space = /\s/;

/** The arguments: an object as it comes, a text with an object in it, or null. */
class ArgumentsReader {
  readonly #begin: () => void;
  readonly #tell: (text: string) => void;
  #kind: "object" | "text" | "null" | null = null;
  /** Of the object, what is not told yet; else all so far. */
  #held = "";
  #depth = 0;
  #isInText = false;
  #isEscaped = false;

  constructor(begin: () => void, tell: (text: string) => void) {
    this.#begin = begin;
    this.#tell = tell;
  }

  push(character: string): Outcome {
    switch (this.#kind) {
      case null:
        return this.#first(character);
      case "object":
        return this.#inObject(character);
      case "text":
        return this.#inText(character);
      case "null":
        return this.#inNull(character);
    }
  }

  /** The answer ended here. */
  rest(): void {
    if (this.#kind === "object" && this.#held !== "") this.#tell(this.#held);
    this.#held = "";
  }

  #first(character: string): Outcome {
    if (space.test(character)) return "more";
    if (character === "{") {
      this.#kind = "object";
      this.#begin();
      // Told with what follows, so that whoever reads hears of the call first.
      this.#held = "{";
      this.#depth = 1;
      return "more";
    }
    if (character !== '"' && character !== "n") return "failed";
    this.#kind = character === '"' ? "text" : "null";
    this.#held = character;
    return "more";
  }

  #inObject(character: string): Outcome {
    this.#tell(this.#held + character);
    this.#held = "";
    if (this.#isEscaped) this.#isEscaped = false;
    else if (this.#isInText) {
      if (character === '"') this.#isInText = false;
      else if (character === "\\") this.#isEscaped = true;
    } else if (character === '"') this.#isInText = true;
    else if (character === "{" || character === "[") this.#depth += 1;
    else if (character === "}" || character === "]") this.#depth -= 1;
    return this.#depth === 0 ? "done" : "more";
  }

  #inText(character: string): Outcome {
    this.#held += character;
    if (this.#isEscaped) this.#isEscaped = false;
    else if (character === "\\") this.#isEscaped = true;
    else if (character === '"') return this.#whole(textIn(this.#held));
    return "more";
  }

  #inNull(character: string): Outcome {
    this.#held += character;
    if (this.#held === "null") return this.#whole("");
    return "null".startsWith(this.#held) ? "more" : "failed";
  }

  #whole(text: string | null): Outcome {
    if (text === null || !/^\s*(?:\{|$)/.test(text)) return "failed";
    this.#begin();
    this.#tell(text.trim() === "" ? "{}" : text);
    return "done";
  }
}

function textIn(json: string): string | null {
  try {
    return JSON.parse(json) as string;
  } catch {
    return null;
  }
}

/** `{"name": "f", "arguments": {…}}`; `parameters` is another name for `arguments`. */
export class ObjectCallReader {
  readonly #sink: CallSink;
  #state:
    | "open"
    | "key"
    | "keyText"
    | "colon"
    | "value"
    | "valueText"
    | "next"
    | "arguments"
    | "after"
    | "skip" = "open";
  #text = "";
  #key = "";
  #name: string | null = null;
  #arguments: ArgumentsReader | null = null;
  #depth = 0;
  #isInText = false;
  #isEscaped = false;

  constructor(sink: CallSink) {
    this.#sink = sink;
  }

  /** Whether it names a function that may be called. */
  get isNamed(): boolean {
    return this.#name !== null;
  }

  rest(): void {
    this.#arguments?.rest();
  }

  push(character: string): Outcome {
    switch (this.#state) {
      case "arguments":
        return this.#inArguments(character);
      case "keyText":
      case "valueText":
        return this.#inText(character);
      case "skip":
        return this.#inSkipped(character);
      default:
        return space.test(character) ? "more" : this.#between(character);
    }
  }

  #between(character: string): Outcome {
    switch (this.#state) {
      case "open":
        return this.#expect(character === "{", "key");
      case "key":
        this.#text = "";
        return this.#expect(character === '"', "keyText");
      case "colon":
        return character === ":" ? this.#atValue() : "failed";
      case "value":
        this.#text = "";
        return this.#expect(character === '"', "valueText");
      case "next":
        return character === "}" ? this.#withoutArguments() : this.#expect(character === ",", "key");
      default:
        if (character === "}") return "done";
        if (character !== ",") return "behind";
        this.#state = "skip";
        return "more";
    }
  }

  #expect(isIt: boolean, next: "key" | "keyText" | "valueText"): Outcome {
    this.#state = next;
    return isIt ? "more" : "failed";
  }

  #atValue(): Outcome {
    if (this.#key !== "arguments" && this.#key !== "parameters") {
      this.#state = "value";
      return "more";
    }
    const name = this.#name;
    if (name === null) return "failed";
    const { begin, arguments: tell } = this.#sink;
    this.#arguments = new ArgumentsReader(() => begin(name), tell);
    this.#state = "arguments";
    return "more";
  }

  /** Names of members, and the texts before the arguments: none of them needs an escape. */
  #inText(character: string): Outcome {
    if (character === "\\") return "failed";
    if (character !== '"') {
      this.#text += character;
      const charsMax = this.#state === "keyText" ? keyCharsMax : nameCharsMax;
      return this.#text.length > charsMax ? "failed" : "more";
    }
    if (this.#state === "keyText") {
      this.#key = this.#text;
      this.#state = "colon";
      return "more";
    }
    this.#state = "next";
    if (this.#key !== "name") return this.#key === "type" || this.#key === "id" ? "more" : "failed";
    if (!this.#sink.knows(this.#text)) return "failed";
    this.#name = this.#text;
    return "more";
  }

  #inArguments(character: string): Outcome {
    const outcome = this.#arguments!.push(character);
    if (outcome !== "done") return outcome;
    this.#state = "after";
    return "more";
  }

  #withoutArguments(): Outcome {
    if (this.#name === null) return "failed";
    this.#sink.begin(this.#name);
    this.#sink.arguments("{}");
    return "done";
  }

  /** What stands behind the arguments says nothing. */
  #inSkipped(character: string): Outcome {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (this.#isInText) {
      if (character === '"') this.#isInText = false;
      else if (character === "\\") this.#isEscaped = true;
    } else if (character === '"') this.#isInText = true;
    else if (character === "{" || character === "[") this.#depth += 1;
    else if (character === "}" && this.#depth === 0) return "done";
    else if (character === "}" || character === "]") this.#depth -= 1;
    return "more";
  }
}

const argumentsMark = "[ARGS]";
const callIdMark = "[CALL_ID]";
const markCharsMax = 64;

/** `f[ARGS]{…}`, with an id between them in some versions: `f[CALL_ID]…[ARGS]{…}`. */
export class NamedCallReader {
  readonly #sink: CallSink;
  #name = "";
  #mark = "";
  #arguments: ArgumentsReader | null = null;

  constructor(sink: CallSink) {
    this.#sink = sink;
  }

  get isNamed(): boolean {
    return this.#sink.knows(this.#name);
  }

  rest(): void {
    this.#arguments?.rest();
  }

  push(character: string): Outcome {
    if (this.#arguments !== null) return this.#arguments.push(character);
    if (this.#mark === "" && character !== "[" && character !== "{") {
      if (!space.test(character)) this.#name += character;
      return this.#name.length > nameCharsMax ? "failed" : "more";
    }
    if (this.#mark === "" && !this.#sink.knows(this.#name)) return "failed";
    if (this.#mark === "" && character === "{") return this.#open().push(character);
    return this.#inMark(character);
  }

  #inMark(character: string): Outcome {
    this.#mark += character;
    const hasId = this.#mark.startsWith(callIdMark);
    if (hasId ? this.#mark.endsWith(argumentsMark) : this.#mark === argumentsMark) {
      this.#open();
      return "more";
    }
    const isPossible = hasId || argumentsMark.startsWith(this.#mark) || callIdMark.startsWith(this.#mark);
    return isPossible && this.#mark.length <= markCharsMax ? "more" : "failed";
  }

  #open(): ArgumentsReader {
    const { begin, arguments: tell } = this.#sink;
    const name = this.#name;
    return (this.#arguments = new ArgumentsReader(() => begin(name), tell));
  }
}
