/** An answer as server-sent events, with an id each where the client may come back. */
import { toSkeinError } from "../../util/errors.ts";
import type { AnswerEvent } from "./answer-request.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
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
  const opened = new Set<number>();
  const ends: ChoiceEnd[] = [];
  const render = (event: AnswerEvent): string => {
    const { choice } = event;
    let text = "";
    if (!opened.has(choice)) {
      cursor.opened(choice);
      if (chunks.opening !== null) text += withId(sseData(chunks.opening(choice)));
      opened.add(choice);
    }
    if (event.type === "end") {
      ends[choice] = event.end;
      cursor.ended(choice);
      return text + withId(sseData(chunks.end(choice, event.end)));
    }
    if (event.text === "" && (event.logprobs ?? []).length === 0) return text;
    cursor.text(choice, event.text);
    return text + withId(sseText(chunks.text(choice, event)));
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
