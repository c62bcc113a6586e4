/** The content blocks of a message: thoughts, texts, uses of tools, one behind the other as they come. */
import type { Delta } from "../../tools/answer-reader.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import type { Frame } from "../answers/format.ts";
import { callId, ChoiceReader } from "../answers/said.ts";

type Block =
  | { readonly type: "text"; readonly text: string }
  /** Nobody signs thoughts here. */
  | { readonly type: "thinking"; readonly thinking: string; readonly signature: string }
  | { readonly type: "tool_use"; readonly id: string; readonly name: string; readonly input: object };

/** An event of the stream without its type in the data. */
export type BlockEvent = readonly [type: string, fields: object];

type Kind = Block["type"];

export class Blocks {
  readonly #requestId: string;
  readonly #done: Block[] = [];
  #open: { readonly kind: Kind; readonly id: string; readonly name: string; text: string } | null = null;

  constructor(requestId: string) {
    this.#requestId = requestId;
  }

  /** Those that are whole. */
  get done(): readonly Block[] {
    return this.#done;
  }

  *take(delta: Delta): Generator<BlockEvent> {
    if (delta.type === "call") {
      yield* this.#begin("tool_use", callId(this.#requestId, 0, delta.index), delta.name);
      return;
    }
    const kind = kinds[delta.type];
    if (this.#open?.kind !== kind) yield* this.#begin(kind);
    this.#open!.text += delta.text;
    const { type, field } = deltaNames[kind];
    yield ["content_block_delta", { index: this.#done.length, delta: { type, [field]: delta.text } }];
  }

  /** There is one at least, if only an empty text. */
  *end(): Generator<BlockEvent> {
    if (this.#open === null && this.#done.length === 0) yield* this.#begin("text");
    yield* this.#close();
  }

  *#begin(kind: Kind, id = "", name = ""): Generator<BlockEvent> {
    yield* this.#close();
    this.#open = { kind, id, name, text: "" };
    const block = blockOf(this.#open);
    yield ["content_block_start", { index: this.#done.length, content_block: block }];
  }

  *#close(): Generator<BlockEvent> {
    if (this.#open === null) return;
    yield ["content_block_stop", { index: this.#done.length }];
    this.#done.push(blockOf(this.#open));
    this.#open = null;
  }
}

const kinds = { content: "text", reasoning: "thinking", arguments: "tool_use" } as const;
const deltaNames = {
  text: { type: "text_delta", field: "text" },
  thinking: { type: "thinking_delta", field: "thinking" },
  tool_use: { type: "input_json_delta", field: "partial_json" },
} as const;

function blockOf(open: {
  readonly kind: Kind;
  readonly id: string;
  readonly name: string;
  readonly text: string;
}): Block {
  const { kind, id, name, text } = open;
  if (kind === "text") return { type: kind, text };
  if (kind === "thinking") return { type: kind, thinking: text, signature: "" };
  return { type: kind, id, name, input: inputIn(text) };
}

/** Of a call that was cut there is nothing that could be used. */
function inputIn(text: string): object {
  try {
    return Object(JSON.parse(text)) as object;
  } catch {
    return {};
  }
}

/** Of a whole answer. */
export function blocksOf({ request, requestId }: Frame, end: ChoiceEnd): readonly Block[] {
  const blocks = new Blocks(requestId);
  const reader = new ChoiceReader(request);
  const steps = reader.push(end.text, end.slices.at(-1)?.offer ?? null);
  for (const delta of [...steps.flatMap(({ deltas }) => deltas), ...reader.end(end).deltas]) {
    for (const _ of blocks.take(delta));
  }
  for (const _ of blocks.end());
  return blocks.done;
}
