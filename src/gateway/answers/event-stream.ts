/** An answer as server-sent events, with an id each where the client may come back. */
import { toSkeinError } from "../../util/errors.ts";
import type { AnswerEvent } from "./answer-request.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
import type { Step } from "../../tools/answer-reader.ts";
import { ChoiceReader } from "./said.ts";
import type { Piece } from "./logprobs.ts";
import { Cursor } from "../resume/cursor.ts";
import { chunkObjects, errorObject, type Frame } from "./format.ts";
import { sseData, sseText } from "../http/sse.ts";

export type Events = AsyncGenerator<AnswerEvent, void>;

/** @param numbered whether events have ids */
export async function* sseEvents(
  frame: Frame,
  first: IteratorResult<AnswerEvent, void>,
  events: Events,
  numbered: boolean,
): AsyncGenerator<string, void> {
  const { request, requestId } = frame;
  const chunks = chunkObjects(frame);
  const cursor = new Cursor(request.prompts.length * request.n);
  const withId = numbered
    ? (event: string): string => `id: ${requestId}:${cursor.toString()}\n${event}`
    : (event: string): string => event;
  const readers: (ChoiceReader | undefined)[] = [];
  const ends: ChoiceEnd[] = [];
  const render = (event: AnswerEvent): string => {
    const { choice } = event;
    let text = "";
    let reader = readers[choice];
    if (reader === undefined) {
      reader = readers[choice] = new ChoiceReader(request);
      cursor.opened(choice);
      if (chunks.opening !== null) text += withId(sseData(chunks.opening(choice)));
    }
    if (event.type === "end") {
      ends[choice] = event.end;
      cursor.ended(choice);
      return text + withId(sseData(chunks.end(choice, event.end, reader.end(event.end))));
    }
    if (event.text === "" || event.offer === null || reader.isPlain(event.offer)) {
      if (event.text === "" && (event.logprobs ?? []).length === 0) return text;
      cursor.went(choice, event.text.length);
      return text + withId(sseText(chunks.text(choice, event)));
    }
    const steps = reader.push(event.text, event.offer);
    return text + stepEvents({ chunks, cursor, withId }, choice, event, steps);
  };
  const closing = (data: string): string => {
    cursor.closing();
    return withId(data);
  };
  try {
    if (first.done !== true) yield render(first.value);
    for await (const event of events) yield render(event);
    if (request.includeUsage) yield closing(sseData(chunks.usage(ends)));
    yield closing(sseData("[DONE]"));
  } catch (error) {
    // No [DONE]: a cut answer must not look like a whole one.
    yield closing(sseData(errorObject(toSkeinError(error))));
  } finally {
    await events.return();
  }
}

/** One event for each step that tells something; the log probabilities of all come with the first. */
function stepEvents(
  stream: {
    readonly chunks: Pick<ReturnType<typeof chunkObjects>, "said" | "text">;
    readonly cursor: Cursor;
    readonly withId: (event: string) => string;
  },
  choice: number,
  { logprobs }: Piece,
  steps: readonly Step[],
): string {
  const { chunks, cursor, withId } = stream;
  let text = "";
  let untold = logprobs;
  for (const { chars, deltas } of steps) {
    cursor.went(choice, chars);
    if (deltas.length === 0) continue;
    text += withId(sseText(chunks.said(choice, deltas, untold)));
    untold = untold === null ? null : [];
  }
  if (untold === null || untold.length === 0) return text;
  return text + withId(sseText(chunks.text(choice, { text: "", logprobs: untold })));
}
