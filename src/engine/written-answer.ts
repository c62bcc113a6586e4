/** An answer's tokens as text once more, the way the engine that drew them wrote it. */
import type { FinishReason, GenerateEvent } from "../protocol/generate.ts";
import type { AnswerWriter } from "./answer-writer.ts";

export interface WrittenAnswer {
  readonly text: string;
  /** Null: it goes on. */
  readonly finish: FinishReason | null;
  /** Not a stop sequence, but the model is said to have ended it. */
  readonly byModel: boolean;
}

/** @param isStopped whether it is said to have stopped: by a stop sequence, if its tokens show one, else by the model */
export function writeAgain(
  writer: AnswerWriter,
  tokenIds: readonly number[],
  isStopped: boolean,
): WrittenAnswer {
  let text = "";
  let finish: FinishReason | null = null;
  const take = (events: readonly GenerateEvent[]): void => {
    for (const event of events) {
      if (event.type === "tokens") text += event.text;
      if (event.type === "end") finish = event.finishReason;
    }
  };
  take(writer.replayEmitted(null));
  for (const id of tokenIds) take(writer.accept(id, null, null));
  const byModel = finish === null && isStopped;
  if (byModel) take(writer.endOfGeneration());
  return { text, finish, byModel };
}
