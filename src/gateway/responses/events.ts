/** One response as the events of its stream. Whoever wants no stream takes the last one's response. */
import { toSkeinError } from "../../util/errors.ts";
import type { AnswerEvent } from "../answers/answer-request.ts";
import type { Events } from "../answers/complete.ts";
import type { Frame } from "../answers/format.ts";
import { answeredObject, failedObject, outputMessage, type ResponseObject, textPart } from "./object.ts";
import { inResponseWords } from "./parse.ts";

export interface ResponseEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

/**
 * @param first what the answer begins with: from here on a failure is an event
 * @returns the response as it ended
 */
export async function* responseEvents(
  response: ResponseObject,
  frame: Frame,
  { first, rest }: { first: IteratorResult<AnswerEvent, void>; rest: Events },
  nowMs: () => number,
): AsyncGenerator<ResponseEvent, ResponseObject> {
  const message = outputMessage(response.id, "in_progress", null);
  const place = { item_id: message.id, output_index: 0, content_index: 0 };
  let number = 0;
  const event = (type: string, fields: object): ResponseEvent => ({
    type,
    sequence_number: number++,
    ...fields,
  });
  yield event("response.created", { response });
  const working = { ...response, status: "in_progress" as const };
  yield event("response.in_progress", { response: working });
  yield event("response.output_item.added", { output_index: 0, item: message });
  yield event("response.content_part.added", { ...place, part: textPart("") });
  try {
    for (let step = first; step.done !== true; step = await rest.next()) {
      const { value } = step;
      if (value.type === "text") {
        yield event("response.output_text.delta", { ...place, delta: value.text, logprobs: [] });
        continue;
      }
      // There is one choice; the iteration goes on to its end, so that all of it is accounted for.
      const done = answeredObject(working, frame, value.end, nowMs());
      const { text } = value.end;
      yield event("response.output_text.done", { ...place, text, logprobs: [] });
      yield event("response.content_part.done", { ...place, part: textPart(text) });
      yield event("response.output_item.done", { output_index: 0, item: done.output[0]! });
      await rest.next();
      yield event(`response.${done.status}`, { response: done });
      return done;
    }
    throw new Error("The answer had no end.");
  } catch (error) {
    const failed = failedObject(working, inResponseWords(toSkeinError(error)));
    yield event("response.failed", { response: failed });
    return failed;
  } finally {
    await rest.return();
  }
}
