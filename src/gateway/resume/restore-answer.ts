/**
 * Goes on with an answer of a process that died: what it wrote down is told again, and the rest is generated, token by
 * token where the first process stopped. What the client has already is not sent again.
 */
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import { pour } from "../../util/sink.ts";
import { type AnswerEvent, answerRequest } from "../answers/answer-request.ts";
import type { Asker } from "../http/app.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import {
  type CompleteDeps,
  type Events,
  eventsOf,
  parseRequest,
  startAnswer,
  type StartedAnswer,
} from "../answers/complete.ts";
import { Cursor } from "./cursor.ts";
import { Cut } from "./cut-at.ts";
import { EventStream } from "../answers/event-stream.ts";
import { LiveChoice, type StoredStream } from "./journal.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";
import { wrongEventId } from "../search/refusals.ts";
import type { Recording, WrittenStream } from "./resumable-streams.ts";

/**
 * @param after what stands behind the colon of the last event's id; null: the client has nothing
 * @returns a recording whose reader is behind that event; null: nothing is kept, or not for this owner
 * @throws SkeinError when nobody can go on with it now; it stays for another try
 */
export async function restoreAnswer(
  deps: CompleteDeps,
  asker: Asker,
  after: string | null,
): Promise<Recording | null> {
  const { requestId, owner } = asker;
  const stored = await deps.journals.find(requestId, owner);
  if (stored === null) return null;
  if (deps.streams.isFull) throw new SkeinError("overloaded", "Too many streams are kept already.");
  // 1. The request as it was asked, and what there is of its answer.
  const request = requestOf(deps, stored);
  const count = request.prompts.length * request.n;
  const cursor = after === null ? new Cursor(count) : Cursor.parse(after, count);
  if (cursor === null) throw wrongEventId(requestId);
  const lives = stored.choices(count).map((choice) => new LiveChoice(choice, true));
  // 2. The same answer again, up to where the client is.
  const { answer, abort, written, release } = goOn(deps, asker, { request, lives, stored });
  const cut = new Cut(cursor);
  const events = cut.apply(eventsOf(answer, abort));
  const before: AnswerEvent[] = [];
  let next: IteratorResult<AnswerEvent, void>;
  try {
    for (;;) {
      next = await events.next();
      if (next.done === true || cut.isReached) break;
      before.push(next.value);
    }
  } catch (error) {
    release();
    throw error;
  }
  // 3. As events of which the client has read the first.
  const source = sseEvents(new EventStream(answer.frame, true), chain(before, next, events));
  const read: string[] = [];
  for (let i = 0; i < before.length + cursor.closings; i++) {
    const { value, done } = await source.next();
    if (done !== true) read.push(value);
  }
  const recording = deps.streams.record({ id: requestId, owner, abort, read });
  recording.isWritten(written);
  void pour(source, recording.write).finally(() => recording.end(""));
  return recording;
}

/** Event by event: a client may have read only the first of those that close a stream. */
async function* sseEvents(stream: EventStream, events: Events): AsyncGenerator<string, void> {
  const ends: ChoiceEnd[] = [];
  try {
    for await (const event of events) {
      if (event.type === "end") ends[event.choice] = event.end;
      yield stream.event(event);
    }
    yield* stream.closing(ends);
  } catch (error) {
    yield stream.failure(toSkeinError(error));
  }
}

function requestOf(deps: CompleteDeps, { head }: StoredStream): CompletionRequest {
  const request = parseRequest(
    deps,
    head.owner,
    head.endpoint,
    JSON.parse(head.body) as Record<string, unknown>,
  );
  return { ...request, sampling: { ...request.sampling, seed: head.seed } };
}

interface GoingOn {
  readonly answer: StartedAnswer;
  readonly abort: AbortController;
  readonly written: WrittenStream | null;
  /** Nobody could go on with it now. */
  readonly release: () => void;
}

function goOn(
  deps: CompleteDeps,
  asker: Asker,
  given: { request: CompletionRequest; lives: readonly LiveChoice[]; stored: StoredStream },
): GoingOn {
  const { request, lives, stored } = given;
  const { requestId } = asker;
  const { head, nextEntry } = stored;
  if (lives.every(({ end }) => end !== null)) {
    // It was whole, and counted and charged then.
    const frame = { requestId, createdMs: head.createdMs, request, cloudPrice: deps.cloudPrice };
    const abort = new AbortController();
    const forget = (): void => void deps.journals.delete(requestId).catch(() => undefined);
    const written = { ended: () => undefined, forget };
    const run: StartedAnswer["run"] = (tell) =>
      answerRequest(deps, asker, request, abort.signal, lives, tell);
    return { answer: { frame, run }, abort, written, release: () => undefined };
  }
  const journal = deps.journals.open(requestId, head, lives, nextEntry);
  const abort = new AbortController();
  const { createdMs } = head;
  const answer = startAnswer(deps, request, asker, abort, { createdMs, lives });
  return { answer, abort, written: journal, release: () => journal?.release() };
}

async function* chain(
  before: readonly AnswerEvent[],
  next: IteratorResult<AnswerEvent, void>,
  events: Events,
): Events {
  try {
    yield* before;
    if (next.done === true) return;
    yield next.value;
    yield* events;
  } finally {
    await events.return();
  }
}
