/**
 * Functions on the way to an upstream and back: its calls become text in Hermes' format, and its thoughts text in tags,
 * which gateways read like any model's.
 */
import type { ChatMessage, Tool } from "../protocol/generate.ts";

/** A message as chat completions have it. */
export function openaiMessage({ role, content, name, toolCalls, toolCallId }: ChatMessage): object {
  const calls = toolCalls?.map(({ id, ...called }) => ({ id, type: "function", function: called }));
  return {
    role,
    content,
    ...(name === undefined ? {} : { name }),
    ...(calls === undefined ? {} : { tool_calls: calls }),
    ...(toolCallId === undefined ? {} : { tool_call_id: toolCallId }),
  };
}

export function openaiTool({ parameters, ...described }: Tool): object {
  return { type: "function", function: { ...described, parameters: JSON.parse(parameters) as unknown } };
}

/** A piece of a call in an upstream's stream. */
export interface CallPiece {
  /** Absent: the latest call. */
  readonly index: number | null;
  readonly name: string | null;
  readonly arguments: string;
}

export class CallWriter {
  #index: number | null = null;
  #isOpen = false;
  #hasArguments = false;

  /** What it adds to the answer. Pieces of calls that were followed by another one are left out. */
  write({ index, name, arguments: text }: CallPiece): string {
    let written = "";
    const isOther = !this.#isOpen || (index !== null && index !== this.#index);
    if (isOther && (name === null || name === "")) return "";
    if (isOther) {
      written = `${this.close()}<tool_call>\n{"name": ${JSON.stringify(name)}, "arguments": `;
      this.#isOpen = true;
      this.#index = index;
    }
    this.#hasArguments ||= text !== "";
    return written + text;
  }

  /** The end of the call that is open, if one is. */
  close(): string {
    if (!this.#isOpen) return "";
    const missing = this.#hasArguments ? "" : "{}";
    this.#isOpen = this.#hasArguments = false;
    return `${missing}}\n</tool_call>\n`;
  }
}

/** Thoughts before an answer, in the tags of models that write them themselves. */
export class ThoughtWriter {
  readonly #hasRoom: boolean;
  #state: "none" | "open" | "over" = "none";

  /** @param hasRoom false: they are left out */
  constructor(hasRoom: boolean) {
    this.#hasRoom = hasRoom;
  }

  write(text: string): string {
    if (text === "" || !this.#hasRoom || this.#state === "over") return "";
    const opening = this.#state === "none" ? "<think>\n" : "";
    this.#state = "open";
    return opening + text;
  }

  /** From here on the answer speaks. */
  close(): string {
    const closing = this.#state === "open" ? "\n</think>\n\n" : "";
    this.#state = "over";
    return closing;
  }
}
