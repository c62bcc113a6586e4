/**
 * One choice from its first attempt to its end. When an attempt fails, the next one gets the prompt, the
 * seed and what was already emitted, and continues at that position.
 */
import type { FinishReason } from "../../protocol/generate.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";
import {
  canContinue,
  type ChoiceDeps,
  type ChoiceRequest,
  emptyProgress,
  type Progress,
  type Slice,
} from "../attempts/attempt.ts";
import { runHedged } from "../attempts/hedge.ts";
import { retryElsewhere } from "../attempts/retry.ts";
import type { LiveChoice } from "../resume/journal.ts";
import { LogprobQueue, type Piece, type PlacedLogprob } from "./logprobs.ts";
import type { Part, ReceiptedChoice } from "../../receipt/document.ts";
import type { Replication } from "../replication/replication.ts";
import { receiptName } from "../attempts/receipts.ts";
import { notBackYet } from "../search/refusals.ts";
import type { Held } from "../attempts/runner.ts";
import { type Home, nextCandidate, othersFor, type Search, type Together } from "../search/search.ts";
import { Stopwatch } from "../attempts/stopwatch.ts";

export interface ChoiceEnd {
  readonly finishReason: FinishReason;
  readonly text: string;
  /** Of the whole text; null: not asked for. */
  readonly logprobs: readonly PlacedLogprob[] | null;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly slices: readonly Slice[];
  /** What its last receipt is called by; null: it has none. */
  readonly receipt: string | null;
  /** Absent: one provider after the other was asked. */
  readonly replication?: Replication;
  readonly attempts: number;
  readonly ttftMs: number;
  readonly totalMs: number;
}

export interface Choice {
  /** Among all choices of the request. */
  readonly index: number;
  readonly request: ChoiceRequest;
  readonly home: Home | null;
  /** Of a replica: hears what was signed, whose others are not to be seen yet. */
  readonly onParts?: (parts: readonly Part[]) => void;
  /** Where others see how it goes, and what there is of it already; null: nobody looks. */
  readonly live: LiveChoice | null;
}

/**
 * Tells text as it becomes certain and resolves with how the choice ended.
 *
 * @throws SkeinError when no attempt can succeed or the request is cancelled
 */
export async function answerChoice(
  deps: ChoiceDeps,
  together: Together,
  choice: Choice,
  signal: AbortSignal,
  tell: Sink<Piece>,
): Promise<ChoiceEnd> {
  const { request, index, live, onParts } = choice;
  const current = { progress: live?.from?.progress ?? emptyProgress() };
  try {
    return await attemptUntilDone(deps, together, choice, current, signal, tell);
  } finally {
    const { parts } = current.progress;
    const commit = (late: Part | null): void =>
      onParts === undefined
        ? committed(deps, together, { index, prompt: request.prompt, parts }, request, late)
        : onParts(parts);
    // What was cancelled has its receipt a moment later.
    current.progress.late.onPart = commit;
    commit(null);
  }
}
/** Its receipts are here: they are kept, and may be chosen for an audit. */
function committed(
  { receipts, audits }: ChoiceDeps,
  { owner, hints: { trust } }: Together,
  answer: ReceiptedChoice,
  { requestId }: ChoiceRequest,
  latePart: Part | null = null,
): void {
  receipts?.keep(owner, requestId, answer);
  const probabilityMin = trust?.level === "audit" ? trust.probability : 0;
  audits?.committed(owner, requestId, answer, { probabilityMin, latePart });
}

async function attemptUntilDone(
  deps: ChoiceDeps,
  together: Together,
  choice: Choice,
  current: { progress: Progress },
  signal: AbortSignal,
  tell: Sink<Piece>,
): Promise<ChoiceEnd> {
  const { request, live } = choice;
  const watch = new Stopwatch(deps.clock);
  const queue = request.logprobs === null ? null : new LogprobQueue();
  const search = newSearch(deps, together, choice, watch);
  for (;;) {
    // 1. The best provider that was not tried yet; wait a while when all are full or away.
    const { progress } = current;
    const to = await nextCandidate(deps, together, search, { request, progress }, signal);
    search.tried.add(to.candidate.providerId);
    const held: Held = { to, progress, moves: 0 };
    if (live !== null) live.held = held;
    try {
      // 2. One attempt, passed through as it comes; a better one may take its place.
      const others = othersFor(deps, together, search, request, held);
      const ended = to.madeRoom === null ? signal : AbortSignal.any([signal, to.madeRoom]);
      const end = await runHedged(
        { deps, request, watch, signal: ended, tell: pieces(tell, queue, held) },
        held,
        others,
      );
      const rest = queue?.rest(held.progress.logprobs, request.stop.length === 0) ?? [];
      if (rest.length > 0) await tell({ text: "", logprobs: rest, offer: held.to.candidate.offer });
      deps.metrics.attempted("ok");
      const attempts = search.attempts + held.moves + 1;
      return { ...endOf(held.progress, watch, end.finishReason, attempts), logprobs: queue?.told ?? null };
    } catch (thrown) {
      // 3. Try elsewhere, if that can help and the next provider can continue.
      const error = toSkeinError(thrown);
      search.attempts += held.moves;
      const { to: last, progress: left } = held;
      const { requestId } = request;
      const { madeRoom } = to;
      const { position } = left;
      const failed = { requestId, to: last, madeRoom, together, search, signal, position };
      const why = retryElsewhere(deps, failed, error);
      if (why !== "no_room") keepOrRestart(last.candidate.offer, search, left, together, error);
    } finally {
      current.progress = held.progress;
    }
  }
}

function newSearch(
  deps: ChoiceDeps,
  { model }: Together,
  { request, home, live }: Choice,
  watch: Stopwatch,
): Search {
  return {
    prompt: request.prompt,
    home,
    tried: new Set(),
    ticket: deps.waitingRoom.ticket(),
    watch,
    attempts: 0,
    fruitlessAttempts: 0,
    failedPosition: 0,
    refused: false,
    waitedMs: 0,
    contextTokensMin: 0,
    failure: live?.isRestored === true ? notBackYet(model) : null,
  };
}

/** Passes texts on with the log probabilities that belong to them. */
function pieces(tell: Sink<Piece>, queue: LogprobQueue | null, held: Held): Sink<string> {
  if (queue === null) return (text) => tell({ text, logprobs: null, offer: held.to.candidate.offer });
  return (text) => {
    const { to, progress } = held;
    return tell({ text, logprobs: queue.release(progress.logprobs, text), offer: to.candidate.offer });
  };
}

function endOf(
  progress: Progress,
  watch: Stopwatch,
  finishReason: FinishReason,
  attempts: number,
): Omit<ChoiceEnd, "logprobs"> {
  return {
    finishReason,
    text: progress.text,
    promptTokens: progress.promptTokens,
    cachedTokens: progress.cachedTokens,
    outputTokens: progress.position,
    slices: progress.slices,
    receipt: receiptName(progress.parts),
    attempts,
    ttftMs: watch.firstMs ?? watch.elapsedMs,
    totalMs: watch.elapsedMs,
  };
}

/** @throws SkeinError when what was emitted can be neither continued nor thrown away */
function keepOrRestart(
  offer: ModelOffer,
  search: Search,
  progress: Progress,
  together: Together,
  error: SkeinError,
): void {
  if (progress.position === 0) return;
  if (canContinue(progress, offer, search.prompt)) {
    // What was emitted belongs to this identity, whatever the request allows.
    together.modelId = offer.modelId;
  } else if (together.restartable || progress.text === "") {
    // Nobody has seen any of it: begin anew, and charge nothing for what is thrown away.
    Object.assign(progress, emptyProgress());
    search.failedPosition = 0;
  } else {
    throw interrupted(error);
  }
}

function interrupted(error: SkeinError): SkeinError {
  return new SkeinError("provider_failed", `The answer was interrupted: ${error.message}`, {
    hint: "This provider's engine cannot hand an answer over; ask again.",
    retry: "never",
    cause: error,
  });
}
