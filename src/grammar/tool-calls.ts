/** Calls of functions as a grammar, in the syntax that a model knows: docs/API.md, "Tools". */
import type { ThoughtFormat, ToolFormat } from "../protocol/offer.ts";
import { SkeinError } from "../util/errors.ts";
import { characterClasses } from "./character-class.ts";
import { characters, complement } from "./character-set.ts";
import { either, GrammarWriter, literal, repeated } from "./grammar-writer.ts";
import { schemaRules } from "./json-schema.ts";
import { JsonText } from "./json-text.ts";
import type { Schema } from "./schema-keywords.ts";

/** Calls that a model can be made to write in one answer; without an end it would go on. */
const callsMax = 16;

export interface CallableFunction {
  readonly name: string;
  readonly parameters: Schema;
  /** Whether its schema must be kept; else one that no grammar can say allows any object. */
  readonly isStrict: boolean;
}

export interface CallForm {
  readonly functions: readonly CallableFunction[];
  /** Calls and nothing else; else words may stand before them, or alone. */
  readonly isRequired: boolean;
  /** Whether there may be several. */
  readonly isParallel: boolean;
}

/**
 * Null: calls that need not come cannot be told from words by their beginning in this format.
 *
 * @throws SkeinError `unsupported_parameter`, `invalid_request` with the function's name for a strict schema that cannot
 * be used
 */
export function toolCallGrammar(
  { functions, isRequired, isParallel }: CallForm,
  format: ToolFormat,
  thoughts: ThoughtFormat | null,
): string | null {
  const writer = new GrammarWriter();
  const json = new JsonText(writer);
  const syntax = syntaxes[format];
  const call = writer.rule(
    either(functions.map((each) => writer.rule(syntax.call(each.name, argumentsRule(json, each))))),
  );
  const further = isParallel && syntax.between !== null ? syntax.between : null;
  const calls =
    further === null
      ? call
      : `${call} ${repeated(writer.rule(`${literal(further)} ${call}`), 0, callsMax - 1)}`;
  if (!isRequired) {
    const { mark } = syntax;
    if (mark === null) return null;
    // From the mark on the rest is a call; what follows it is free again.
    const behindMark = writer.rule(
      `${literal(syntax.open.slice(mark.length))} ${syntax.isRepeated ? call : calls} ${literal(syntax.close)}`,
    );
    const isLooped = isParallel && syntax.isRepeated;
    return writer.text(
      `TagDispatch((${literal(mark)}, ${behindMark}), stop_eos=true, stop_str=(), loop_after_dispatch=${isLooped})`,
    );
  }
  const body = writer.rule(`${literal(syntax.open)} ${calls} ${literal(syntax.close)}`);
  return writer.text(thoughts === null ? body : `${thoughtRules(writer, thoughts)} ${body}`);
}

interface Syntax {
  /** What begins a call wherever it stands; null: nothing does for certain. */
  readonly mark: string | null;
  readonly open: string;
  readonly call: (name: string, values: string) => string;
  /** Between two calls; null: there is one only. */
  readonly between: string | null;
  readonly close: string;
  /** Whether each call has the mark. */
  readonly isRepeated: boolean;
}

function objectCall(key: "arguments" | "parameters"): Syntax["call"] {
  return (name, values) => `${literal(`{"name": "${name}", "${key}": `)} ${values} "}"`;
}

const syntaxes: Readonly<Record<ToolFormat, Syntax>> = {
  hermes: {
    mark: "<tool_call>",
    open: "<tool_call>\n",
    call: objectCall("arguments"),
    between: "\n</tool_call>\n<tool_call>\n",
    close: "\n</tool_call>",
    isRepeated: true,
  },
  llama3: {
    mark: null,
    open: "",
    call: objectCall("parameters"),
    between: null,
    close: "",
    isRepeated: false,
  },
  mistral: {
    mark: "[TOOL_CALLS]",
    open: "[TOOL_CALLS][",
    call: objectCall("arguments"),
    between: ", ",
    close: "]",
    isRepeated: false,
  },
  mistral_args: {
    mark: "[TOOL_CALLS]",
    open: "[TOOL_CALLS]",
    call: (name, values) => `${literal(`${name}[ARGS]`)} ${values}`,
    between: "[TOOL_CALLS]",
    close: "",
    isRepeated: true,
  },
  generic: {
    mark: null,
    open: "",
    call: objectCall("arguments"),
    between: "\n",
    close: "",
    isRepeated: false,
  },
};

function argumentsRule(json: JsonText, { name, parameters, isStrict }: CallableFunction): string {
  try {
    // Alone first: what cannot be said leaves rules behind that are not whole.
    schemaRules(new JsonText(new GrammarWriter()), parameters);
  } catch (error) {
    if (!(error instanceof SkeinError)) throw error;
    if (!isStrict) return schemaRules(json, { type: "object" });
    const { code, message, hint } = error;
    throw new SkeinError(code, `The function '${name}': ${message}`, hint === undefined ? {} : { hint });
  }
  return schemaRules(json, parameters);
}

/** Thoughts up to their end, and the empty line behind it; where the model opens them itself, also none. */
function thoughtRules(writer: GrammarWriter, thoughts: ThoughtFormat): string {
  const inside = textUpTo(writer, "</think>");
  return thoughts === "opened" ? `${inside} "\\n\\n"` : `("<think>" ${inside} "\\n\\n")?`;
}

/** Any text, then `end`, which has its first character once. Each rule knows how much of `end` has just come. */
function textUpTo(writer: GrammarWriter, end: string): string {
  const [first] = end;
  const states = Array.from(end, () => writer.reserve());
  Array.from(end).forEach((next, i) => {
    const known = i === 0 ? [next] : [next, first!];
    const others = characterClasses(complement(characters(known.join(""))));
    const alternatives = [
      ...others.map((each) => `${each} ${states[0]!}`),
      i + 1 < end.length ? `${literal(next)} ${states[i + 1]!}` : literal(next),
      ...(i === 0 ? [] : [`${literal(first!)} ${states[1]!}`]),
    ];
    writer.define(states[i]!, alternatives.join(" | "));
  });
  return states[0]!;
}
