/** From the texts of a choice to what its client is told: each with the log probabilities that belong to it. */
import type { ChoiceRequest } from "../attempts/attempt.ts";
import type { LogprobQueue, Piece } from "./logprobs.ts";
import type { End, Held } from "../attempts/runner.ts";

/**
 * @param held who answers: its progress has the log probabilities of all tokens so far
 * @param queue null: none are wanted
 */
export async function* piecesOf(
  texts: AsyncGenerator<string, End>,
  held: Held,
  { stop }: ChoiceRequest,
  queue: LogprobQueue | null,
): AsyncGenerator<Piece, End> {
  try {
    for (;;) {
      const { done, value } = await texts.next();
      const { logprobs } = held.progress;
      const { offer } = held.to.candidate;
      if (done !== true) {
        yield { text: value, logprobs: queue?.release(logprobs, value) ?? null, offer };
        continue;
      }
      const rest = queue?.rest(logprobs, stop.length === 0) ?? [];
      if (rest.length > 0) yield { text: "", logprobs: rest, offer };
      return value;
    }
  } finally {
    await texts.return(undefined as never);
  }
}
