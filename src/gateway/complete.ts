/** POST /v1/chat/completions and /v1/completions: the one path of every request. */
import { SkeinError, toSkeinError } from "../util/errors.ts";
import type { Asker } from "./app.ts";
import { answerRequest, type Bill, billOf, type AnswerEvent } from "./answer-request.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
import type { ChoiceDeps } from "./attempt.ts";
import { keepCompletion, storeWish } from "./chat/stored.ts";
import { chunkObjects, completionObject, errorObject, type Frame } from "./format.ts";
import type { KeptRecords } from "./kept-records.ts";
import type { ModelAccess } from "./model-access.ts";
import type { CloudPrice } from "./options.ts";
import { parseBody } from "./parse-body.ts";
import { type CompletionRequest, parseChatRequest, parseTextRequest } from "./parse-request.ts";
import type { ResumableStreams } from "./resumable-streams.ts";
import { ownerOf, recordedResponse, wantsResume } from "./resume-endpoint.ts";
import { sseBody, sseData, sseHeaders, sseText } from "./sse.ts";
import { Stopwatch } from "./stopwatch.ts";

export interface CompleteDeps extends ChoiceDeps {
  readonly cloudPrice: CloudPrice | null;
  readonly streams: ResumableStreams;
  readonly access: ModelAccess;
  readonly keptChat: KeptRecords;
}

export async function complete(
  deps: CompleteDeps,
  endpoint: CompletionRequest["endpoint"],
  http: Request,
  { requestId, owner }: Asker,
): Promise<Response> {
  // 1. Check everything that can be checked without a provider.
  const body = await parseBody(http);
  const given =
    endpoint === "chat" ? parseChatRequest(body, deps.random) : parseTextRequest(body, deps.random);
  const request = { ...given, model: deps.access.resolve(owner, given.model) };
  const wish = endpoint === "chat" ? storeWish(body) : null;
  // 2. Route and attempt; every wait below ends with the deadline or the client's leaving.
  const abort = new AbortController();
  const started = startAnswer(deps, request, { requestId, owner }, abort);
  const { frame } = started;
  const messages = (body["messages"] ?? []) as object[];
  const keep = (ends: ChoiceEnd[]): Promise<unknown> =>
    keepCompletion(deps.keptChat, owner, frame, ends, { ...wish!, messages });
  const events = wish === null ? started.events : thenKept(deps, started.events, keep);
  const onLeave = (): void => abort.abort(new SkeinError("cancelled", "The client went away."));
  if (http.signal.aborted) onLeave();
  http.signal.addEventListener("abort", onLeave, { once: true });
  // 3. Nothing is sent before the first token: until then a failure has its own HTTP status.
  const first = await events.next();
  const named = { "x-request-id": `req_${requestId}` };
  if (!request.stream) return Response.json(await collect(frame, first, events), { headers: named });
  // 4. Stream; a client that may come back reads from a record.
  const source = sseEvents(frame, first, events);
  if (wantsResume(http)) {
    const recording = deps.streams.record({ id: requestId, owner: ownerOf(http), source, abort });
    if (recording !== null) {
      http.signal.removeEventListener("abort", onLeave);
      return recordedResponse(deps.clock, recording, http, -1);
    }
  }
  return new Response(sseBody(deps.clock, source, abort), {
    headers: { ...named, ...sseHeaders },
  });
}

/** An answer that comes as events: what every endpoint's answers are made of. */
export interface StartedAnswer {
  readonly frame: Frame;
  readonly events: Events;
}

/** @param abort ends it, as does its deadline */
export function startAnswer(
  deps: CompleteDeps,
  request: CompletionRequest,
  asker: Asker & { readonly isBatch?: boolean },
  abort: AbortController,
): StartedAnswer {
  const { requestId, owner } = asker;
  const frame: Frame = {
    requestId,
    createdMs: deps.clock.nowMs(),
    request,
    cloudPrice: deps.cloudPrice,
  };
  deps.decisions.began(requestId, owner, request.model);
  const cancelDeadline = startDeadline(deps, abort);
  const answering = answerRequest(deps, asker, request, abort.signal);
  return { frame, events: observed(deps, frame, answering, cancelDeadline) };
}

/** Passes events on, and keeps the whole before its end is heard. What cannot be kept is answered all the same. */
async function* thenKept(
  { log }: CompleteDeps,
  events: Events,
  keep: (ends: ChoiceEnd[]) => Promise<unknown>,
): Events {
  const ends: ChoiceEnd[] = [];
  for await (const event of events) {
    if (event.type === "end") ends[event.choice] = event.end;
    yield event;
  }
  await keep(ends).catch((error: unknown) =>
    log.warn({ reason: toSkeinError(error).message }, "an answer could not be kept"),
  );
}

/** The ends of all choices, once they are there. @throws SkeinError */
export async function endsOf(events: Events): Promise<ChoiceEnd[]> {
  const ends: ChoiceEnd[] = [];
  for await (const event of events) if (event.type === "end") ends[event.choice] = event.end;
  return ends;
}

function startDeadline({ clock, limits }: CompleteDeps, abort: AbortController): () => void {
  const { requestTimeoutMs } = limits;
  return clock.schedule(requestTimeoutMs, () =>
    abort.abort(
      new SkeinError("deadline_exceeded", `The request took longer than ${requestTimeoutMs} ms.`, {
        hint: "Ask for fewer tokens, or raise requestTimeoutMs in the gateway's configuration.",
        retry: "never",
      }),
    ),
  );
}

export type Events = AsyncGenerator<AnswerEvent, void>;

/** Passes events on and records how the request went. */
async function* observed(
  deps: CompleteDeps,
  frame: Frame,
  events: AsyncIterable<AnswerEvent>,
  release: () => void,
): Events {
  const { request } = frame;
  const operation = request.endpoint === "chat" ? "chat" : "text_completion";
  const watch = new Stopwatch(deps.clock);
  const ends: ChoiceEnd[] = [];
  let errorCode: string | null = "cancelled";
  let bill: Bill | null = null;
  try {
    for await (const event of events) {
      if (event.type === "end") ends[event.choice] = event.end;
      yield event;
    }
    errorCode = null;
    bill = billOf(request, ends);
    deps.metrics.answered(operation, request.model, bill, ends);
  } catch (error) {
    const failure = inWordsOf(request.endpoint, toSkeinError(error));
    errorCode = failure.code;
    if (failure.code === "internal_error") deps.log.error({ error: String(error) }, "request failed");
    throw failure;
  } finally {
    release();
    deps.decisions.ended(frame.requestId, errorCode ?? "ok", bill);
    deps.metrics.requestEnded(operation, request.model, watch.elapsedMs / 1000, errorCode);
  }
}

/** Providers call every prompt `messages`, for they do not know how it was asked. */
function inWordsOf(endpoint: CompletionRequest["endpoint"], error: SkeinError): SkeinError {
  if (endpoint === "chat" || error.param !== "messages") return error;
  const { code, message, hint, retry } = error;
  return new SkeinError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    param: "prompt",
    retry,
    cause: error,
  });
}

async function collect(
  frame: Frame,
  first: IteratorResult<AnswerEvent, void>,
  events: Events,
): Promise<object> {
  // Texts come with the ends: until then an answer may still begin anew elsewhere.
  const ends: ChoiceEnd[] = [];
  const take = (event: AnswerEvent): void => {
    if (event.type === "end") ends[event.choice] = event.end;
  };
  if (first.done !== true) take(first.value);
  for await (const event of events) take(event);
  return completionObject(frame, ends);
}

async function* sseEvents(
  frame: Frame,
  first: IteratorResult<AnswerEvent, void>,
  events: Events,
): AsyncGenerator<string, void> {
  const chunks = chunkObjects(frame);
  const opened = new Set<number>();
  const ends: ChoiceEnd[] = [];
  const render = (event: AnswerEvent): string => {
    let text = "";
    if (!opened.has(event.choice) && chunks.opening !== null) text += sseData(chunks.opening(event.choice));
    opened.add(event.choice);
    if (event.type === "text") return text + sseText(chunks.text(event.choice, event.text));
    ends[event.choice] = event.end;
    return text + sseData(chunks.end(event.choice, event.end));
  };
  try {
    if (first.done !== true) yield render(first.value);
    for await (const event of events) yield render(event);
    if (frame.request.includeUsage) yield sseData(chunks.usage(ends));
    yield sseData("[DONE]");
  } catch (error) {
    // No [DONE]: a cut answer must not look like a whole one.
    yield sseData(errorObject(toSkeinError(error)));
  } finally {
    await events.return();
  }
}
