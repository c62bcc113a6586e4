/** An answer as server-sent events, with an id each where the client may come back. */
import type { Step } from "../../tools/answer-reader.ts";
import { type SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";
import { sseData, sseText } from "../http/sse.ts";
import { Cursor } from "../resume/cursor.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
import type { AnswerEvent } from "./answer-request.ts";
import { chunkObjects, errorObject, type Frame } from "./format.ts";
import type { Piece } from "./logprobs.ts";
import { ChoiceReader } from "./said.ts";

/** Where the events of an answer go. */
export interface EventOut {
  readonly write: Sink<string>;
  /** @param last whole events behind all others */
  end(last: string): void;
}

/**
 * Tells an answer until its end. Resolves with the first event: a failure before it is thrown, one behind it is an event.
 *
 * @param run the answer
 */
export function tellEvents(
  stream: EventStream,
  run: (tell: Sink<AnswerEvent>) => Promise<readonly ChoiceEnd[]>,
  out: EventOut,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let isBegun = false;
    const told = run((event) => {
      if (!isBegun) {
        isBegun = true;
        resolve();
      }
      return out.write(stream.event(event));
    });
    told.then(
      (ends) => out.end(stream.closing(ends).join("")),
      (error: unknown) => {
        if (!isBegun) reject(error);
        else out.end(stream.failure(toSkeinError(error)));
      },
    );
  });
}

export class EventStream {
  readonly #request: Frame["request"];
  readonly #chunks: ReturnType<typeof chunkObjects>;
  /** Of choices that have begun. */
  readonly #readers: (ChoiceReader | undefined)[] = [];
  readonly #cursor: Cursor;
  /** Null: events have no ids. */
  readonly #idPrefix: string | null;

  /** @param numbered whether events have ids */
  constructor(frame: Frame, numbered: boolean) {
    const { request, requestId } = frame;
    this.#request = request;
    this.#chunks = chunkObjects(frame);
    this.#cursor = new Cursor(request.prompts.length * request.n);
    this.#idPrefix = numbered ? `id: ${requestId}:` : null;
  }

  /** Events of what was told; empty: none yet. */
  event(event: AnswerEvent): string {
    const { choice } = event;
    const known = this.#readers[choice];
    const reader = known ?? (this.#readers[choice] = new ChoiceReader(this.#request));
    const opening = known === undefined ? this.#opening(choice) : "";
    if (event.type === "end") {
      this.#cursor.ended(choice);
      return opening + this.#withId(sseData(this.#chunks.end(choice, event.end, reader.end(event.end))));
    }
    if (event.text === "" || event.offer === null || reader.isPlain(event.offer)) {
      if (event.text === "" && (event.logprobs ?? []).length === 0) return opening;
      this.#cursor.went(choice, event.text.length);
      return opening + this.#withId(sseText(this.#chunks.text(choice, event)));
    }
    return opening + this.#steps(choice, event, reader.push(event.text, event.offer));
  }

  #opening(choice: number): string {
    this.#cursor.opened(choice);
    const { opening } = this.#chunks;
    return opening === null ? "" : this.#withId(sseData(opening(choice)));
  }

  /** One event for each step that tells something; the log probabilities of all come with the first. */
  #steps(choice: number, { logprobs }: Piece, steps: readonly Step[]): string {
    let text = "";
    let untold = logprobs;
    for (const { chars, deltas } of steps) {
      this.#cursor.went(choice, chars);
      if (deltas.length === 0) continue;
      text += this.#withId(sseText(this.#chunks.said(choice, deltas, untold)));
      untold = untold === null ? null : [];
    }
    if (untold === null || untold.length === 0) return text;
    return text + this.#withId(sseText(this.#chunks.text(choice, { text: "", logprobs: untold })));
  }

  /** What follows the choices' ends. */
  closing(ends: readonly ChoiceEnd[]): string[] {
    const usage = this.#request.includeUsage ? [this.#closing(sseData(this.#chunks.usage(ends)))] : [];
    return [...usage, this.#closing(sseData("[DONE]"))];
  }

  /** No [DONE]: a cut answer must not look like a whole one. */
  failure(error: SkeinError): string {
    return this.#closing(sseData(errorObject(error)));
  }

  #closing(event: string): string {
    this.#cursor.closing();
    return this.#withId(event);
  }

  #withId(event: string): string {
    return this.#idPrefix === null ? event : `${this.#idPrefix}${this.#cursor.toString()}\n${event}`;
  }
}
