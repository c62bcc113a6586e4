/** One response as the events of its stream. Whoever wants no stream takes the last one's response. */
import { toSkeinError } from "../../util/errors.ts";
import type { AnswerEvent } from "../answers/answer-request.ts";
import type { Events } from "../answers/complete.ts";
import type { Frame } from "../answers/format.ts";
import { ChoiceReader } from "../answers/said.ts";
import { answeredObject, failedObject, type ResponseObject } from "./object.ts";
import { OutputItems } from "./output.ts";
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
  const reader = new ChoiceReader(frame.request);
  const items = new OutputItems(frame.requestId);
  let number = 0;
  const event = (type: string, fields: object): ResponseEvent => ({
    type,
    sequence_number: number++,
    ...fields,
  });
  yield event("response.created", { response });
  const working = { ...response, status: "in_progress" as const };
  yield event("response.in_progress", { response: working });
  try {
    for (let step = first; step.done !== true; step = await rest.next()) {
      const { value } = step;
      if (value.type === "text") {
        for (const { deltas } of reader.push(value.text, value.offer)) {
          for (const delta of deltas) for (const told of items.take(delta)) yield event(...told);
        }
        continue;
      }
      // There is one choice; the iteration goes on to its end, so that all of it is accounted for.
      const { end } = value;
      const { deltas } = reader.end(end);
      for (const delta of deltas) for (const told of items.take(delta)) yield event(...told);
      for (const told of items.end(end.finishReason !== "length")) yield event(...told);
      const done = answeredObject(working, frame, end, nowMs());
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
