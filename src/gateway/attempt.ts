/** One try at one provider. */
import type { GenerateEvent, GenerateRequest } from "../protocol/generate.ts";
import type { ModelOffer } from "../protocol/offer.ts";
import type { Candidate } from "../router/predict.ts";
import { errorKinds, SkeinError, toSkeinError } from "../util/errors.ts";
import { believedOutputTokens, believedPromptTokens } from "./claims.ts";
import type { ChooseDeps, Occupied } from "./choose-provider.ts";
import type { Cloud } from "./cloud.ts";
import type { Decisions } from "./decisions.ts";
import type { FairShare } from "./fair-share.ts";
import type { HedgeBudget } from "./hedge.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { type GatewayDeps, type GatewayLimits, startTimeoutMs } from "./options.ts";
import { Sighting } from "./sighting.ts";
import { Stopwatch } from "./stopwatch.ts";
import type { WaitingRoom } from "./waiting-room.ts";

export interface ChoiceDeps extends GatewayDeps, ChooseDeps {
  readonly waitingRoom: WaitingRoom;
  readonly share: FairShare;
  readonly hedges: HedgeBudget;
  /** The provider of last resort; null: there is none. */
  readonly cloud: Cloud | null;
  readonly metrics: GatewayMetrics;
  readonly decisions: Decisions;
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
  promptTokens: number;
  cachedTokens: number;
  slices: Slice[];
}

export function emptyProgress(): Progress {
  return {
    tokenIds: [],
    text: "",
    idsComplete: true,
    position: 0,
    promptTokens: 0,
    cachedTokens: 0,
    slices: [],
  };
}

type TokensEvent = Extract<GenerateEvent, { type: "tokens" }>;
type StartEvent = Extract<GenerateEvent, { type: "start" }>;
type EndEvent = Extract<GenerateEvent, { type: "end" }>;

/** A request without what differs from attempt to attempt. */
export type ChoiceRequest = Omit<GenerateRequest, "modelId" | "emitted" | "timeoutMs">;

/**
 * Yields text as it becomes certain, and returns the provider's `end`.
 *
 * @throws SkeinError as `attemptError` puts it
 */
export async function* runAttempt(
  deps: ChoiceDeps,
  request: ChoiceRequest,
  to: Occupied,
  progress: Progress,
  watch: Stopwatch,
  signal: AbortSignal,
): AsyncGenerator<string, EndEvent> {
  const { limits, clock } = deps;
  const { candidate, entry } = to;
  const startPosition = progress.position;
  const attempt = new Stopwatch(clock);
  const guard = attempt.guard(signal);
  let end: EndEvent | null = null;
  let started = false;
  const sighting = new Sighting(to, attempt, startPosition);
  try {
    guard.limit(Math.min(startTimeoutMs, limits.firstTokenTimeoutMs), "accept the request");
    const timeoutMs = Math.max(1, Math.ceil(limits.requestTimeoutMs - watch.elapsedMs));
    const asked = attemptOf(request, candidate.offer, progress, timeoutMs);
    const events = entry.session.generate(asked, guard.signal);
    for await (const event of events) {
      if (event.type === "tokens") {
        attempt.markFirst();
        watch.markFirst();
        take(progress, event);
        // Only the provider's silence counts, not the time that the client takes to read.
        guard.limit(null, "");
        sighting.handOut();
        if (event.text !== "") yield event.text;
        sighting.takenUp();
        guard.limit(limits.tokenTimeoutMs, "send its next token");
      } else if (event.type === "start") {
        started = true;
        guard.limit(limits.firstTokenTimeoutMs, "send its first token", attempt.elapsedMs);
        begin(progress, event, request);
        sighting.started(event, progress.promptTokens);
        deps.prefixes.remember(to.keys, candidate.providerId, clock.nowMs());
      } else {
        end = event;
        finish(progress, event, request);
        const observation = sighting.observation(event, progress.position);
        deps.directory.reportAnswer(entry, candidate.offer.modelId, observation);
        return event;
      }
    }
    throw new SkeinError("provider_failed", "The provider's answer had no end.");
  } catch (thrown) {
    const wasQueued = !started && entry.session.status.active >= candidate.offer.parallelMax;
    throw attemptError(thrown, wasQueued);
  } finally {
    guard.release();
    to.leave();
    charge(progress, candidate, { startPosition, end, elapsedMs: attempt.elapsedMs });
    // One that was refused held no slot; to announce it would make those who wait try for nothing.
    if (started) deps.directory.reportRoom();
  }
}

function attemptOf(
  request: ChoiceRequest,
  { modelId }: ModelOffer,
  { tokenIds, text }: Progress,
  timeoutMs: number,
): GenerateRequest {
  return { ...request, modelId, emitted: { tokenIds, text }, timeoutMs };
}

function take(progress: Progress, event: TokensEvent): void {
  for (const id of event.tokenIds) progress.tokenIds.push(id);
  if (event.tokenIds.length !== event.tokenCount) progress.idsComplete = false;
  progress.position += event.tokenCount;
  progress.text += event.text;
}

function begin(progress: Progress, start: StartEvent, { prompt }: ChoiceRequest): void {
  progress.promptTokens = believedPromptTokens(start.promptTokens, prompt);
  if (progress.position === 0) progress.cachedTokens = Math.min(start.cachedTokens, progress.promptTokens);
}

function finish(progress: Progress, end: EndEvent, request: ChoiceRequest): void {
  progress.promptTokens = believedPromptTokens(end.promptTokens, request.prompt);
  // Tokens whose ids were seen are counted here already.
  if (progress.idsComplete) return;
  progress.position = believedOutputTokens(end.outputTokens, progress.text, request);
}

function charge(
  progress: Progress,
  { providerId, offer }: Candidate,
  facts: { startPosition: number; end: EndEvent | null; elapsedMs: number },
): void {
  const outputTokens = Math.max(0, progress.position - facts.startPosition);
  if (outputTokens === 0 && facts.end === null) return;
  const claimedMs =
    facts.end === null ? Number.POSITIVE_INFINITY : facts.end.timings.prefillMs + facts.end.timings.decodeMs;
  const durationMs = Math.floor(Math.min(claimedMs, facts.elapsedMs));
  progress.slices.push({ providerId, offer, outputTokens, durationMs });
}

/** What a provider may blame on the request; whatever else it reports is its own failure. */
const requestFaults: ReadonlySet<string> = new Set([
  "invalid_request",
  "unsupported_parameter",
  "context_length_exceeded",
  "request_too_large",
]);

/** A failure as the loop over attempts understands it: the client's fault, no room, or the provider's fault. */
function attemptError(thrown: unknown, wasQueued: boolean): SkeinError {
  const error = toSkeinError(thrown, "provider_failed");
  // One that works for others, and only never came to this request, is busy, not broken.
  if (error.code === "provider_stalled" && wasQueued) {
    return new SkeinError("overloaded", "The provider is busy with other requests.", { cause: error });
  }
  if (error.code === "overloaded") return error;
  if (requestFaults.has(error.code) && error.retry === "never") return error;
  if (errorKinds[error.code].status >= 500 && error.retry === "elsewhere") return error;
  return new SkeinError("provider_failed", error.message, { cause: error });
}
