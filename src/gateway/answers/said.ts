/** What a choice says, read from its text: thoughts, words, calls of functions. */
import type { ModelOffer, ThoughtFormat } from "../../protocol/offer.ts";
import { toolCallsMax } from "../../protocol/generate.ts";
import {
  AnswerReader,
  type Delta,
  readAnswer,
  type ReadAnswer,
  type Reading,
  type Step,
} from "../../tools/answer-reader.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";
import type { ChoiceEnd } from "./answer-choice.ts";

type Formats = Pick<ModelOffer, "toolFormat" | "thoughtFormat">;
type Asked = Pick<CompletionRequest, "endpoint" | "prompts" | "constraint" | "toolUse">;

/** Where a model's thoughts are in answers to a request; null: nowhere. */
export function thoughtsIn(
  { constraint, prompts }: Pick<Asked, "constraint" | "prompts">,
  { thoughtFormat }: Formats,
): ThoughtFormat | null {
  // A form that was asked for has no room for them.
  if (constraint !== null || thoughtFormat === undefined) return null;
  const [prompt] = prompts;
  // The template has closed what it opened.
  return prompt?.kind === "chat" && prompt.thinks === false ? "tags" : thoughtFormat;
}

/** Null: the text is the answer. */
export function readingOf(request: Asked, offer: Formats): Reading | null {
  if (request.endpoint !== "chat") return null;
  const thoughts = thoughtsIn(request, offer);
  const { toolUse } = request;
  if (toolUse === undefined) return thoughts === null ? null : { calls: null, thoughts };
  const { names, isParallel } = toolUse;
  const calls = { format: offer.toolFormat ?? "generic", names, callsMax: isParallel ? toolCallsMax : 1 };
  return { calls, thoughts };
}

export interface Said extends ReadAnswer {
  readonly finishReason: ChoiceEnd["finishReason"] | "tool_calls";
}

/** A whole answer. */
export function saidIn(request: Asked, { text, finishReason, slices }: ChoiceEnd): Said {
  const reading = readingOf(request, slices.at(-1)?.offer ?? {});
  if (reading === null) return { content: text, reasoning: "", calls: [], finishReason };
  const said = readAnswer(reading, text, finishReason);
  return { ...said, finishReason: finishNameOf(finishReason, said.calls.length) };
}

function finishNameOf(finishReason: ChoiceEnd["finishReason"], calls: number): Said["finishReason"] {
  return finishReason === "stop" && calls > 0 ? "tool_calls" : finishReason;
}

/** The same wherever the answer is told: a client may come back to it, and another provider go on. */
export function callId(requestId: string, choice: number, index: number): string {
  return `call_${requestId}_${choice}_${index}`;
}

/** One choice, as it comes. */
export class ChoiceReader {
  readonly #request: Asked;
  #reader: AnswerReader | null = null;
  /** Null: nothing came yet. */
  #isPlain: boolean | null = null;

  constructor(request: Asked) {
    this.#request = request;
  }

  /** @param offer of who says it; null: `text` is empty */
  push(text: string, offer: ModelOffer | null): readonly Step[] {
    if (text === "" || offer === null) return [];
    if (this.isPlain(offer)) return [{ chars: text.length, deltas: [{ type: "content", text }] }];
    return this.#reader!.push(text);
  }

  /** Whether all text is content. */
  isPlain(offer: ModelOffer): boolean {
    // Once for all: who goes on with an answer has the same formats.
    if (this.#isPlain !== null) return this.#isPlain;
    const reading = readingOf(this.#request, offer);
    if (reading !== null) this.#reader = new AnswerReader(reading);
    return (this.#isPlain = reading === null);
  }

  /** What was held back, and how the answer ended. */
  end({ finishReason }: ChoiceEnd): {
    readonly deltas: readonly Delta[];
    readonly finishReason: Said["finishReason"];
  } {
    if (this.#reader === null) return { deltas: [], finishReason };
    const deltas = this.#reader.end(finishReason);
    return { deltas, finishReason: finishNameOf(finishReason, this.#reader.calls) };
  }
}
