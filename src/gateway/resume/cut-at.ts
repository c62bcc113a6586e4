/** Puts a mark into the events of an answer that is told again: behind it comes what a client does not have yet. */
import type { AnswerEvent } from "../answers/answer-request.ts";
import type { Events } from "../answers/complete.ts";
import type { Cursor } from "./cursor.ts";

export class Cut {
  /** Whether everything from now on is behind the mark. */
  isReached = false;
  readonly #cursor: Cursor;
  readonly #chars: number[];
  readonly #ended = new Set<number>();
  readonly #later: AnswerEvent[] = [];

  constructor(cursor: Cursor) {
    this.#cursor = cursor;
    this.#chars = cursor.counts.map(() => 0);
  }

  /** The same events: texts are cut at the mark, and what belongs behind it waits until all choices are there. */
  async *apply(events: AsyncIterable<AnswerEvent>): Events {
    if (this.#isComplete()) yield* this.#reach();
    for await (const event of events) {
      if (this.isReached) yield event;
      else yield* this.#sort(event);
    }
    // An engine that answers differently each time may have ended sooner than the first time.
    if (!this.isReached) yield* this.#reach();
  }

  *#sort(event: AnswerEvent): Generator<AnswerEvent, void> {
    const { choice } = event;
    const missing = this.#missing(choice);
    if (event.type === "end") {
      this.#ended.add(choice);
      if (missing > 0) yield event;
      else this.#later.push(event);
    } else {
      const head = event.text.slice(0, missing);
      const rest = event.text.slice(missing);
      this.#chars[choice]! += head.length;
      if (head !== "") yield { ...event, text: head };
      if (rest !== "") this.#later.push({ ...event, text: rest });
    }
    if (this.#isComplete()) yield* this.#reach();
  }

  *#reach(): Generator<AnswerEvent, void> {
    // Without text: only their opening came.
    for (const [choice, count] of this.#cursor.counts.entries()) {
      if (count === 1) yield { type: "text", choice, text: "", logprobs: null, offer: null };
    }
    this.isReached = true;
    yield* this.#later;
  }

  #missing(choice: number): number {
    return Math.max(0, this.#cursor.counts[choice]! - 1 - this.#chars[choice]!);
  }

  #isComplete(): boolean {
    return this.#chars.every((_, choice) => this.#ended.has(choice) || this.#missing(choice) === 0);
  }
}
