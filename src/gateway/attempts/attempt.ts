/** One try at one provider. */
import type { GenerateEvent, GenerateRequest, Prompt, TokenLogprob } from "../../protocol/generate.ts";
import { continuesByText, type ModelOffer } from "../../protocol/offer.ts";
import type { Part } from "../../receipt/document.ts";
import { errorKinds, SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";
import type { AttemptReceipt } from "./attempt-receipt.ts";
import { askedFrom } from "./attempt-request.ts";
import { charge, newWork, type Work } from "./charge.ts";
import { believedOutputTokens, believedPromptTokens } from "../search/claims.ts";
import type { ChooseDeps, Occupied } from "../search/choose-provider.ts";
import type { Cloud } from "../search/cloud.ts";
import type { Decisions } from "../search/decisions.ts";
import type { FairShare } from "../search/fair-share.ts";
import type { HedgeBudget } from "./hedge-budget.ts";
import type { GatewayMetrics } from "../metrics.ts";
import { type GatewayDeps, type GatewayLimits, startTimeoutMs } from "../options.ts";
import type { ToolUse } from "../requests/parse-tools.ts";
import { type Receipts, receiptTimeoutMs } from "./receipts.ts";
import { Sighting } from "./sighting.ts";
import { StallBound } from "./stall-bound.ts";
import { Stopwatch } from "./stopwatch.ts";
import type { Ticker } from "./ticker.ts";
import type { WaitingRoom } from "../search/waiting-room.ts";

export interface ChoiceDeps extends GatewayDeps, ChooseDeps {
  readonly waitingRoom: WaitingRoom;
  readonly share: FairShare;
  readonly hedges: HedgeBudget;
  readonly ticker: Ticker;
  /** The provider of last resort; null: there is none. */
  readonly cloud: Cloud | null;
  readonly metrics: GatewayMetrics;
  readonly decisions: Decisions;
  /** Null: none are asked for. */
  readonly receipts: Receipts | null;
  readonly limits: GatewayLimits;
}

/** What one provider did for a choice: the unit of charging. */
export interface Slice {
  readonly providerId: string;
  readonly offer: ModelOffer;
  readonly outputTokens: number;
  /** Engine time: the provider's claim, but never more than was measured here. */
  readonly durationMs: number;
}

/** Everything a choice accumulates over its attempts. */
export interface Progress {
  tokenIds: number[];
  text: string;
  /** Whether `tokenIds` is all there is, so that another provider can continue. */
  idsComplete: boolean;
  position: number;
  /** Of all tokens, where they are asked for. */
  logprobs: TokenLogprob[];
  promptTokens: number;
  cachedTokens: number;
  slices: Slice[];
  /** What was signed for each attempt. */
  parts: Part[];
  /** Of the attempt that runs: characters before it, where it took over from one that had gone on. Null: it did not. */
  textFrom: number | null;
  /** Hears of receipts that came after their attempt was cancelled; copies of a progress share it. */
  readonly late: { onPart: ((part: Part) => void) | null };
  /** The attempt that runs, as far as it has signed; null: none does, or none signs. */
  open: { readonly receipt: AttemptReceipt; readonly startText: string } | null;
  /** Time of the attempt that runs in which it only repeated what came from another: nobody pays for it. */
  repeatedMs: number;
}

export function emptyProgress(): Progress {
  return {
    tokenIds: [],
    text: "",
    idsComplete: true,
    position: 0,
    logprobs: [],
    promptTokens: 0,
    cachedTokens: 0,
    slices: [],
    parts: [],
    textFrom: null,
    late: { onPart: null },
    open: null,
    repeatedMs: 0,
  };
}

type TokensEvent = Extract<GenerateEvent, { type: "tokens" }>;
type StartEvent = Extract<GenerateEvent, { type: "start" }>;
export type EndEvent = Extract<GenerateEvent, { type: "end" }>;

/** A request without what differs from attempt to attempt. */
export type ChoiceRequest = Omit<GenerateRequest, "modelId" | "emitted" | "timeoutMs" | "terms"> & {
  /** Of several choices of a prompt only the first one pays for it. */
  readonly chargesPrompt: boolean;
  /** Functions that may be called; absent: none. */
  readonly toolUse?: ToolUse;
};

/** One try, and what is measured of it. */
export interface Attempt {
  readonly to: Occupied;
  readonly progress: Progress;
  readonly startPosition: number;
  readonly startText: string;
  readonly watch: Stopwatch;
  readonly stall: StallBound;
}

export function newAttempt({ clock, limits }: ChoiceDeps, to: Occupied, progress: Progress): Attempt {
  const stall = new StallBound(limits.tokenTimeoutMs, paceOf(to));
  const { position: startPosition, text: startText } = progress;
  return { to, progress, startPosition, startText, watch: new Stopwatch(clock), stall };
}

/**
 * Tells text as it becomes certain, and resolves with the provider's `end`. Once `signal` is aborted, `progress` is no longer
 * changed by what is on its way.
 *
 * @param watch of the whole choice
 * @throws SkeinError as `attemptError` puts it
 */
export async function runAttempt(
  deps: ChoiceDeps,
  request: ChoiceRequest,
  attempt: Attempt,
  watch: Stopwatch,
  signal: AbortSignal,
  tell: Sink<string>,
): Promise<EndEvent> {
  const { to, progress } = attempt;
  const { candidate, entry } = to;
  const work = newWork(progress);
  const run: Run = {
    request,
    attempt,
    watch,
    guard: attempt.watch.guard(signal),
    work,
    sighting: new Sighting(to, attempt.watch, work.startPosition),
    signed: null,
  };
  try {
    await receive(deps, run, tell);
    if (work.end === null) throw new SkeinError("provider_failed", "The provider's answer had no end.");
  } catch (thrown) {
    const wasQueued = work.startMs === null && entry.session.status.active >= candidate.offer.parallelMax;
    const error = attemptError(thrown, { wasQueued, isBegun: progress.position > 0 });
    // Behind its end an answer is whole, whatever becomes of its receipt.
    if (work.end === null || signal.aborted) {
      if (!signal.aborted) await settle(deps, run);
      throw error;
    }
  } finally {
    run.guard.release();
    to.leave();
    if (work.end === null || signal.aborted) abandon(deps, run);
    charge(progress, candidate, work, attempt.watch.elapsedMs);
    // One that was refused held no slot; to announce it would make those who wait try for nothing.
    if (work.startMs !== null) deps.directory.reportRoom();
  }
  const problem = await settle(deps, run);
  const { modelId } = candidate.offer;
  if (problem === null)
    deps.directory.reportAnswer(entry, modelId, work.observation!, to.isBatch ? null : to.isBeside);
  else deps.directory.reportFailure(entry, modelId, badReceipt(problem));
  return work.end;
}

/** An attempt on its way. */
interface Run {
  readonly request: ChoiceRequest;
  readonly attempt: Attempt;
  /** Of the whole choice. */
  readonly watch: Stopwatch;
  readonly guard: ReturnType<Stopwatch["guard"]>;
  readonly work: Work;
  readonly sighting: Sighting;
  /** Null: no receipt is expected, or it is settled. */
  signed: AttemptReceipt | null;
}

/** Sends the request and takes in what comes, until the end and its receipt. */
function receive(deps: ChoiceDeps, run: Run, tell: Sink<string>): Promise<void> {
  const { request, watch, guard } = run;
  const { to, progress } = run.attempt;
  const { limits } = deps;
  guard.limit(Math.min(startTimeoutMs, limits.firstTokenTimeoutMs), "accept the request");
  const timeoutMs = Math.max(1, Math.ceil(limits.requestTimeoutMs - watch.elapsedMs));
  const asked = askedFrom(deps, request, to, progress, timeoutMs);
  run.signed = deps.receipts?.open(asked, to.candidate.providerId, progress.parts.at(-1)) ?? null;
  const { signed } = run;
  progress.open = signed === null ? null : { receipt: signed, startText: progress.text };
  const onLate = (event: GenerateEvent): void => signed?.late(event);
  const taken = (event: GenerateEvent): Promise<void> | undefined => {
    if (guard.signal.aborted) onLate(event);
    guard.signal.throwIfAborted();
    if (event.type === "tokens") return takeTokens(run, event, tell);
    takeOther(deps, run, event);
    return undefined;
  };
  return to.entry.session.generate(asked, guard.signal, taken, onLate);
}

function takeTokens(run: Run, event: TokensEvent, tell: Sink<string>): Promise<void> | undefined {
  const { watch, guard, work, sighting } = run;
  const { progress, stall, watch: attempt } = run.attempt;
  take(progress, event);
  const nowMs = attempt.elapsedMs;
  if (work.firstMs === null) {
    work.firstMs = nowMs;
    attempt.markFirst();
    watch.markFirst();
    sighting.first();
  }
  work.lastMs = nowMs;
  stall.heard(nowMs);
  const room = event.text === "" ? undefined : tell(event.text);
  if (room === undefined) {
    stall.wait(nowMs);
    guard.limit(stall.timeoutMs, "send its next token");
    return undefined;
  }
  // Only the provider's silence counts, not the time that the client takes to read.
  guard.limit(null, "");
  return room.then(() => {
    sighting.unread(attempt.elapsedMs - nowMs);
    stall.wait(attempt.elapsedMs);
    guard.limit(stall.timeoutMs, "send its next token");
  });
}

function takeOther(deps: ChoiceDeps, run: Run, event: Exclude<GenerateEvent, TokensEvent>): void {
  const { request, guard, work, sighting, attempt } = run;
  const { to, progress, watch } = attempt;
  const { providerId, offer } = to.candidate;
  if (event.type === "start") {
    work.startMs = watch.elapsedMs;
    guard.limit(deps.limits.firstTokenTimeoutMs, "send its first token", watch.elapsedMs);
    begin(progress, event, request);
    sighting.started(event, progress.promptTokens);
    deps.prefixes.remember(to.keys, providerId, deps.clock.nowMs());
  } else if (event.type === "checkpoint") {
    run.signed?.checkpoint(event);
  } else if (event.type === "receipt") {
    run.signed?.receipt(event.encoded);
  } else {
    finish(progress, event, request, { offer, work });
    work.end = event;
    work.observation = sighting.observation(event, progress.position);
    guard.limit(receiptTimeoutMs, "send its receipt");
  }
}

function badReceipt(problem: string): SkeinError {
  return new SkeinError("provider_failed", `The answer's receipt is bad: ${problem}.`);
}

/** What was delivered since the attempt began; null: nothing. */
function deliveredBy({ attempt: { progress }, work: { startPosition, startText, end } }: Run) {
  if (progress.position === startPosition && end === null) return null;
  const tokenIds = progress.idsComplete ? progress.tokenIds.slice(startPosition) : null;
  return { tokenIds, text: progress.text.slice(startText.length) };
}

/** It was cancelled: nobody waits for its receipt, but it is taken when it comes. */
function abandon({ receipts }: ChoiceDeps, run: Run): void {
  const { signed } = run;
  const { progress, to } = run.attempt;
  const delivered = deliveredBy(run);
  if (receipts === null || signed === null || delivered === null) return;
  const part = placed(progress, signed.abandoned(delivered.tokenIds, delivered.text));
  progress.parts.push(part);
  signed.whenSigned(receipts.historyOf(to.candidate.providerId), part, () => progress.late.onPart?.(part));
}

/** Where it stands in the answer. */
function placed(progress: Progress, part: Part): Part {
  const { textFrom } = progress;
  progress.textFrom = progress.open = null;
  return textFrom === null ? part : { ...part, textFrom };
}

/** Checks what was signed, once, and takes it to what the choice has so far. Returns what is wrong with it. */
async function settle({ receipts, log }: ChoiceDeps, run: Run): Promise<string | null> {
  const { signed } = run;
  const delivered = deliveredBy(run);
  run.signed = null;
  if (receipts === null || signed === null || delivered === null) return null;
  const { providerId } = run.attempt.to.candidate;
  const part = await signed.settle(receipts.historyOf(providerId), delivered.tokenIds, delivered.text);
  run.attempt.progress.parts.push(placed(run.attempt.progress, part));
  if (part.problem !== null)
    log.warn({ provider: providerId, reason: part.problem }, "an answer lacks its receipt");
  return part.problem;
}

/** Whether an answer can go on there: by token ids; or, where an upstream has none, by text. */
export function canContinue({ position, idsComplete }: Progress, offer: ModelOffer, prompt: Prompt): boolean {
  if (position === 0) return true;
  return idsComplete ? offer.resumable : continuesByText(offer, prompt);
}

function take(progress: Progress, event: TokensEvent): void {
  for (const id of event.tokenIds) progress.tokenIds.push(id);
  if (event.tokenIds.length !== event.tokenCount) progress.idsComplete = false;
  if (event.logprobs !== undefined) progress.logprobs.push(...event.logprobs);
  progress.position += event.tokenCount;
  progress.text += event.text;
}

function begin(progress: Progress, start: StartEvent, { prompt }: ChoiceRequest): void {
  const isByText = progress.position > 0 && !progress.idsComplete;
  if (!isByText) progress.promptTokens = believedPromptTokens(start.promptTokens, prompt);
  if (progress.position === 0) progress.cachedTokens = Math.min(start.cachedTokens, progress.promptTokens);
}

/** @throws SkeinError when the answer cannot be over yet */
function finish(
  progress: Progress,
  end: EndEvent,
  request: ChoiceRequest,
  { offer, work: { startPosition, startText } }: { offer: ModelOffer; work: Work },
): void {
  // To an upstream, what it is to continue is a part of the prompt.
  const readAgain = progress.idsComplete ? 0 : startPosition;
  progress.promptTokens = believedPromptTokens(Math.max(0, end.promptTokens - readAgain), request.prompt);
  // Tokens whose ids were seen are counted here already.
  if (progress.idsComplete) return requireLength(progress, end, request, offer);
  const text = progress.text.slice(startText.length);
  const total = startPosition + believedOutputTokens(end.outputTokens, text, request);
  progress.position = Math.min(total, request.outputTokensMax ?? total);
}

/** Whoever says that there is no room for more must have filled it. @throws SkeinError `provider_failed` */
function requireLength(
  { position, promptTokens }: Progress,
  { finishReason }: EndEvent,
  { outputTokensMax }: ChoiceRequest,
  { contextTokensMax }: ModelOffer,
): void {
  if (finishReason !== "length") return;
  const room = Math.min(outputTokensMax ?? Number.POSITIVE_INFINITY, contextTokensMax - promptTokens);
  if (position >= room) return;
  throw new SkeinError("provider_failed", `The provider ended after ${position} of ${room} tokens.`);
}

/** The usual pace of a model at its provider. */
function paceOf({ candidate, entry }: Occupied): number | null {
  return entry.served(candidate.offer.modelId).pace.tokensPerSecond;
}

/** What a provider may blame on the request; whatever else it reports is its own failure. */
const requestFaults: ReadonlySet<string> = new Set([
  "invalid_request",
  "unsupported_parameter",
  "context_length_exceeded",
  "request_too_large",
]);

/** A failure as the loop over attempts understands it: the client's fault, no room, or the provider's fault. */
export function attemptError(
  thrown: unknown,
  { wasQueued, isBegun }: { wasQueued: boolean; isBegun: boolean },
): SkeinError {
  const error = toSkeinError(thrown, "provider_failed");
  // One that works for others, and only never came to this request, is busy, not broken.
  if (error.code === "provider_stalled" && wasQueued) {
    return new SkeinError("overloaded", "The provider is busy with other requests.", { cause: error });
  }
  if (error.code === "overloaded") return error;
  // What one provider took, another may only find too long for its context.
  const isPlausible = !isBegun || error.code === "context_length_exceeded";
  if (requestFaults.has(error.code) && error.retry === "never" && isPlausible) return error;
  if (errorKinds[error.code].status >= 500 && error.retry === "elsewhere") return error;
  return new SkeinError("provider_failed", error.message, { cause: error });
}
