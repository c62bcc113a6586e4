/** The output items of a response: thoughts, messages, calls of functions, one behind the other as they come. */
import type { Delta } from "../../tools/answer-reader.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import type { Frame } from "../answers/format.ts";
import { callId, ChoiceReader } from "../answers/said.ts";

type ItemStatus = "in_progress" | "completed" | "incomplete";

interface TextPart {
  readonly type: "output_text";
  readonly text: string;
  readonly annotations: readonly never[];
  readonly logprobs: readonly never[];
}
interface ThoughtPart {
  readonly type: "reasoning_text";
  readonly text: string;
}

interface MessageItem {
  readonly id: string;
  readonly type: "message";
  readonly status: ItemStatus;
  readonly role: "assistant";
  readonly content: readonly TextPart[];
}
interface CallItem {
  readonly id: string;
  readonly type: "function_call";
  readonly status: ItemStatus;
  readonly call_id: string;
  readonly name: string;
  readonly arguments: string;
}
interface ReasoningItem {
  readonly id: string;
  readonly type: "reasoning";
  readonly status: ItemStatus;
  readonly summary: readonly never[];
  readonly content: readonly ThoughtPart[];
}
export type OutputItem = MessageItem | CallItem | ReasoningItem;

/** An event without its number. */
export type OutputEvent = readonly [type: string, fields: object];

function textPart(text: string): TextPart {
  return { type: "output_text", text, annotations: [], logprobs: [] };
}

interface OpenItem {
  readonly kind: "content" | "reasoning" | "call";
  readonly id: string;
  readonly callId: string;
  readonly name: string;
  text: string;
}

export class OutputItems {
  readonly #requestId: string;
  readonly #done: OutputItem[] = [];
  #open: OpenItem | null = null;

  constructor(requestId: string) {
    this.#requestId = requestId;
  }

  /** Those that are whole. */
  get done(): readonly OutputItem[] {
    return this.#done;
  }

  *take(delta: Delta): Generator<OutputEvent> {
    if (delta.type === "call") {
      yield* this.#close("completed");
      return yield* this.#begin("call", callId(this.#requestId, 0, delta.index), delta.name);
    }
    const kind = delta.type === "arguments" ? "call" : delta.type;
    if (this.#open?.kind !== kind) {
      yield* this.#close("completed");
      yield* this.#begin(kind);
    }
    const open = this.#open!;
    open.text += delta.text;
    yield [`response.${names[kind]}.delta`, { ...this.#place(open), delta: delta.text, ...extras[kind] }];
  }

  /** There is one at least, if only an empty message. */
  *end(isWhole: boolean): Generator<OutputEvent> {
    if (this.#open === null && this.#done.length === 0) yield* this.#begin("content");
    yield* this.#close(isWhole ? "completed" : "incomplete");
  }

  *#begin(kind: OpenItem["kind"], call = "", name = ""): Generator<OutputEvent> {
    const index = this.#done.length;
    const prefix = { content: "msg", reasoning: "rs", call: "fc" }[kind];
    const id = `${prefix}_${this.#requestId}${index === 0 ? "" : `_${index}`}`;
    const open: OpenItem = { kind, id, callId: call, name, text: "" };
    this.#open = open;
    yield ["response.output_item.added", { output_index: index, item: itemOf(open, "in_progress") }];
    if (kind === "call") return;
    yield ["response.content_part.added", { ...this.#place(open), part: partOf(open) }];
  }

  *#close(status: ItemStatus): Generator<OutputEvent> {
    const open = this.#open;
    if (open === null) return;
    const { kind, text, name } = open;
    const whole = kind === "call" ? { name, arguments: text } : { text };
    yield [`response.${names[kind]}.done`, { ...this.#place(open), ...whole, ...extras[kind] }];
    if (kind !== "call") yield ["response.content_part.done", { ...this.#place(open), part: partOf(open) }];
    const item = itemOf(open, status);
    yield ["response.output_item.done", { output_index: this.#done.length, item }];
    this.#done.push(item);
    this.#open = null;
  }

  #place({ id, kind }: OpenItem): object {
    const place = { item_id: id, output_index: this.#done.length };
    return kind === "call" ? place : { ...place, content_index: 0 };
  }
}

/** Of a whole answer. */
export function outputOf({ request, requestId }: Frame, end: ChoiceEnd): readonly OutputItem[] {
  const items = new OutputItems(requestId);
  const reader = new ChoiceReader(request);
  const steps = reader.push(end.text, end.slices.at(-1)?.offer ?? null);
  const deltas = [...steps.flatMap((step) => step.deltas), ...reader.end(end).deltas];
  for (const delta of deltas) for (const _ of items.take(delta));
  for (const _ of items.end(end.finishReason !== "length"));
  return items.done;
}

const names = {
  content: "output_text",
  reasoning: "reasoning_text",
  call: "function_call_arguments",
} as const;
const extras = { content: { logprobs: [] }, reasoning: {}, call: {} } as const;

function partOf({ kind, text }: OpenItem): TextPart | ThoughtPart {
  return kind === "content" ? textPart(text) : { type: "reasoning_text", text };
}

function itemOf({ kind, id, callId: call, name, text }: OpenItem, status: ItemStatus): OutputItem {
  const isBegun = status === "in_progress";
  switch (kind) {
    case "content":
      return { id, type: "message", status, role: "assistant", content: isBegun ? [] : [textPart(text)] };
    case "reasoning":
      return {
        id,
        type: "reasoning",
        status,
        summary: [],
        content: isBegun ? [] : [{ type: "reasoning_text", text }],
      };
    case "call":
      return { id, type: "function_call", status, call_id: call, name, arguments: text };
  }
}
