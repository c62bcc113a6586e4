/** POST /v1/chat/completions and /v1/completions: the one path of every request. */
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import { drawn, ignore, type Sink } from "../../util/sink.ts";
import type { Asker } from "../http/app.ts";
import { answerRequest, type Bill, billOf, type AnswerEvent } from "./answer-request.ts";
import type { ChoiceEnd } from "./answer-choice.ts";
import type { ChoiceDeps } from "../attempts/attempt.ts";
import { keepCompletion, type StoreWish, storeWish } from "../chat/stored.ts";
import { EventStream, tellEvents } from "./event-stream.ts";
import { completionObject, type Frame, trustView } from "./format.ts";
import { withHeaderHints } from "../requests/header-hints.ts";
import { type Journal, type Journals, LiveChoice } from "../resume/journal.ts";
import type { KeptRecords } from "../kept/kept-records.ts";
import type { ModelAccess } from "../requests/model-access.ts";
import type { CloudPrice } from "../options.ts";
import { parseBody } from "../requests/parse-body.ts";
import { type CompletionRequest, parseChatRequest, parseTextRequest } from "../requests/parse-request.ts";
import { recordedResponse, wantsResume } from "../resume/recorded-response.ts";
import type { ResumableStreams } from "../resume/resumable-streams.ts";
import { SseBody } from "../http/sse.ts";
import { Stopwatch } from "../attempts/stopwatch.ts";

export interface CompleteDeps extends ChoiceDeps {
  readonly cloudPrice: CloudPrice | null;
  readonly streams: ResumableStreams;
  readonly journals: Journals;
  readonly access: ModelAccess;
  readonly keptChat: KeptRecords;
}

export type Events = AsyncGenerator<AnswerEvent, void>;

export async function complete(
  deps: CompleteDeps,
  endpoint: CompletionRequest["endpoint"],
  http: Request,
  asker: Asker,
): Promise<Response> {
  const { requestId, owner } = asker;
  // 1. Check everything that can be checked without a provider.
  const body = withHeaderHints(await parseBody(http), http.headers);
  const request = parseRequest(deps, owner, endpoint, body);
  const wish = endpoint === "chat" ? storeWish(body) : null;
  // 2. Route and attempt; every wait below ends with the deadline or the client's leaving.
  const abort = new AbortController();
  const { signal } = http;
  const onLeave = (): void => abort.abort(new SkeinError("cancelled", "The client went away."));
  if (signal.aborted) onLeave();
  signal.addEventListener("abort", onLeave, { once: true });
  const stayed = (): void => signal.removeEventListener("abort", onLeave);
  const createdMs = deps.clock.nowMs();
  const isResumable = request.stream && wantsResume(http) && !deps.streams.isFull;
  const written = isResumable ? writeDown(deps, asker, request, { body, createdMs }) : null;
  const begun = { createdMs, lives: written?.lives ?? null };
  const answer = startAnswer(deps, request, asker, abort, begun);
  const { frame } = answer;
  const run = wish === null ? answer.run : thenKept(deps, answer, { ...wish, owner, body });
  // 3. As a whole.
  const named = { "x-request-id": `req_${requestId}` };
  if (!request.stream) {
    const ends = await run(ignore);
    stayed();
    return Response.json(completionObject(frame, ends), { headers: { ...named, ...receiptHeader(ends) } });
  }
  // 4. As it comes. Nothing is sent before the first token: until then a failure has its own HTTP status.
  const stream = new EventStream(frame, written !== null);
  if (written !== null) {
    const recording = deps.streams.record({ id: requestId, owner, abort });
    try {
      await tellEvents(stream, run, recording);
    } catch (error) {
      deps.streams.drop(recording);
      written.journal?.forget();
      throw error;
    }
    // 5. A client that may come back reads from a record.
    recording.isWritten((await written.isOnDisk) ? written.journal : null);
    stayed();
    return recordedResponse(deps.clock, recording, http, recording.readOn());
  }
  const out = new SseBody(deps.clock, abort);
  await tellEvents(stream, run, out);
  // From here on its body knows.
  stayed();
  return out.toResponse(named);
}

export function parseRequest(
  { random, access }: Pick<CompleteDeps, "random" | "access">,
  owner: string,
  endpoint: CompletionRequest["endpoint"],
  body: Record<string, unknown>,
): CompletionRequest {
  const given = endpoint === "chat" ? parseChatRequest(body, random) : parseTextRequest(body, random);
  const hints = access.hintsFor(owner, given.hints);
  return { ...given, hints, model: access.resolve(owner, given.model) };
}

interface WrittenDown {
  readonly lives: readonly LiveChoice[];
  readonly journal: Journal | null;
  /** False: it ends with this process. */
  readonly isOnDisk: Promise<boolean>;
}

function writeDown(
  { journals }: CompleteDeps,
  { requestId, owner }: Asker,
  request: CompletionRequest,
  { body, createdMs }: { body: object; createdMs: number },
): WrittenDown {
  const lives = Array.from({ length: request.prompts.length * request.n }, () => new LiveChoice());
  const { endpoint, sampling } = request;
  const head = { endpoint, body: JSON.stringify(body), seed: sampling.seed, owner, createdMs };
  // Log probabilities and replicas are not written down: a stream with them lives as long as this process.
  const isReplicated = request.hints.trust?.level === "replicated";
  const journal = request.logprobs === null && !isReplicated ? journals.open(requestId, head, lives) : null;
  // While a provider is looked for: most answers do not wait for it.
  return { lives, journal, isOnDisk: journal?.begin() ?? Promise.resolve(false) };
}

/** What every endpoint's answers are made of. */
export interface StartedAnswer {
  readonly frame: Frame;
  /** Answers, once, and tells how it goes. Resolves with the ends of all choices. @throws SkeinError */
  readonly run: (tell: Sink<AnswerEvent>) => Promise<readonly ChoiceEnd[]>;
}

/**
 * @param abort ends it, as does its deadline
 * @param started when the client asked, and where its choices are written down; by default now, and nowhere
 */
export function startAnswer(
  deps: CompleteDeps,
  request: CompletionRequest,
  asker: Asker & { readonly isBatch?: boolean },
  abort: AbortController,
  started: { readonly createdMs: number; readonly lives: readonly LiveChoice[] | null } | null = null,
): StartedAnswer {
  const { requestId, owner } = asker;
  const { createdMs, lives } = started ?? { createdMs: deps.clock.nowMs(), lives: null };
  const frame: Frame = { requestId, createdMs, request, cloudPrice: deps.cloudPrice };
  deps.decisions.began(requestId, owner, request.model);
  const cancelDeadline = startDeadline(deps, abort, createdMs);
  const run: StartedAnswer["run"] = (tell) =>
    observed(deps, frame, answerRequest(deps, asker, request, abort.signal, lives, tell), cancelDeadline);
  return { frame, run };
}

/** The events of an answer, to be asked for one by one; leaving them ends it. */
export function eventsOf({ run }: StartedAnswer, abort: AbortController): Events {
  return drawn(async (tell, left) => {
    left.addEventListener("abort", () => abort.abort(new SkeinError("cancelled", "The request ended.")));
    await run(tell);
  });
}

/** Keeps the whole before the last word is told. What cannot be kept is answered all the same. */
function thenKept(
  { log, keptChat }: CompleteDeps,
  { frame, run }: StartedAnswer,
  { owner, body, metadata }: StoreWish & { readonly owner: string; readonly body: Record<string, unknown> },
): StartedAnswer["run"] {
  return async (tell) => {
    const ends = await run(tell);
    const messages = (body["messages"] ?? []) as object[];
    await keepCompletion(keptChat, owner, frame, ends, { metadata, messages }).catch((error: unknown) =>
      log.warn({ reason: toSkeinError(error).message }, "an answer could not be kept"),
    );
    return ends;
  };
}

/** Ends what takes longer than one request may. Returns a function that forgets it. */
export function startDeadline(
  { clock, limits }: Pick<CompleteDeps, "clock" | "limits">,
  abort: AbortController,
  createdMs: number,
): () => void {
  const { requestTimeoutMs } = limits;
  return clock.schedule(Math.max(0, createdMs + requestTimeoutMs - clock.nowMs()), () =>
    abort.abort(
      new SkeinError("deadline_exceeded", `The request took longer than ${requestTimeoutMs} ms.`, {
        hint: "Ask for fewer tokens, or raise requestTimeoutMs in the gateway's configuration.",
        retry: "never",
      }),
    ),
  );
}

/** Records how a request went. */
async function observed(
  deps: CompleteDeps,
  { requestId, request }: Frame,
  answering: Promise<readonly ChoiceEnd[]>,
  release: () => void,
): Promise<readonly ChoiceEnd[]> {
  const operation = request.endpoint === "chat" ? "chat" : "text_completion";
  const watch = new Stopwatch(deps.clock);
  let ends: readonly ChoiceEnd[] = [];
  let errorCode: string | null = null;
  let bill: Bill | null = null;
  try {
    ends = await answering;
    bill = billOf(request, ends);
    deps.metrics.answered(operation, request.model, bill, ends);
    return ends;
  } catch (error) {
    const failure = inWordsOf(request, toSkeinError(error));
    errorCode = failure.code;
    if (failure.code === "internal_error") deps.log.error({ error: String(error) }, "request failed");
    throw failure;
  } finally {
    release();
    const trust = bill === null ? null : trustView(request, ends);
    deps.decisions.ended(requestId, errorCode ?? "ok", bill, trust);
    deps.metrics.requestEnded(operation, request.model, watch.elapsedMs / 1000, errorCode);
  }
}

/** Providers call every prompt `messages`, and every grammar `response_format`, for they do not know how it was asked. */
function inWordsOf({ endpoint, toolUse }: CompletionRequest, error: SkeinError): SkeinError {
  const { code, message, hint, retry, param } = error;
  const own =
    param === "messages" && endpoint === "text"
      ? "prompt"
      : param === "response_format" && toolUse !== undefined
        ? "tools"
        : null;
  if (own === null) return error;
  return new SkeinError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    param: own,
    retry,
    cause: error,
  });
}

/** Hashes of the choices' receipts, if all have one. */
function receiptHeader(ends: readonly ChoiceEnd[]): Record<string, string> {
  const names = ends.flatMap(({ receipt }) => receipt ?? []);
  return names.length === ends.length ? { "x-skein-receipt": names.join(",") } : {};
}
