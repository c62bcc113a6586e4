/** What follows from an attempt that failed: the same rules for answers and embeddings. */
import { SkeinError } from "../../util/errors.ts";
import type { Occupied } from "../search/choose-provider.ts";
import type { Search, Together } from "../search/search.ts";
import type { ChoiceDeps } from "./attempt.ts";

/** Providers that may fail a choice, one after another and without a token between them, before it is given up. */
const fruitlessAttemptsMax = 4;
/**
 * What a provider counts of these that vanished, process and all: requests crash engines, which run apart, and hardly ever
 * providers. Where machines come and go, several may be lost while one prompt is read.
 */
const vanishedShare = 1 / 4;

/** One attempt of a choice, and how far its answer is. */
export interface Failed {
  readonly requestId: string;
  /** Who had it at last. */
  readonly to: Occupied;
  /** Aborted when it had to make room; null: it need not. */
  readonly madeRoom: AbortSignal | null;
  readonly together: Together;
  readonly search: Search;
  readonly signal: AbortSignal;
  /** Tokens of the answer; 0 where there are none. */
  readonly position: number;
}

/**
 * Notes a failure, and prepares the search for the next provider.
 *
 * @returns why there is a next one: this one had no room, it made room for somebody who waits, or it failed
 * @throws SkeinError when there can be none
 */
export function retryElsewhere(
  deps: Pick<ChoiceDeps, "decisions" | "directory" | "log" | "metrics">,
  failed: Failed,
  error: SkeinError,
): "no_room" | "made_room" | "failed" {
  const { requestId, to, madeRoom, search, signal, position } = failed;
  const { providerId } = to.candidate;
  const hasYielded = madeRoom?.aborted === true && !signal.aborted;
  deps.metrics.attempted(signal.aborted ? "cancelled" : hasYielded ? "made_room" : error.code);
  if (signal.aborted) throw signal.reason instanceof SkeinError ? signal.reason : error;
  deps.decisions.failed(requestId, providerId, error, position);
  if (error.code === "overloaded" || hasYielded) {
    search.refused = true;
    return error.code === "overloaded" ? "no_room" : "made_room";
  }
  deps.log.info({ provider: providerId, code: error.code, position }, "attempt failed");
  count(search, position, error);
  judge(deps, failed, error);
  return "failed";
}

/** An answer that grows may outlive many providers: only failures without a token between them add up. */
function count(search: Search, position: number, error: SkeinError): void {
  search.attempts += 1;
  search.failure = error;
  if (position > search.failedPosition) search.fruitlessAttempts = search.waitedMs = 0;
  search.fruitlessAttempts += error.code === "provider_disconnected" ? vanishedShare : 1;
  search.failedPosition = position;
}

/** @throws SkeinError when nobody else can do better, or enough have tried */
function judge(
  { directory }: Pick<ChoiceDeps, "directory">,
  { to: { candidate, entry }, search, together }: Failed,
  error: SkeinError,
): void {
  const { offer } = candidate;
  if (error.code === "context_length_exceeded") {
    // Providers choose how much of a model's context they have memory for.
    search.contextTokensMin = Math.max(search.contextTokensMin, offer.contextTokensMax);
    const others = directory.candidates(together.model, together.modelId);
    if (others.some((other) => other.offer.contextTokensMax > search.contextTokensMin)) return;
    throw error;
  }
  if (error.retry === "never") throw error;
  directory.reportFailure(entry, offer.modelId, error);
  if (search.fruitlessAttempts >= fruitlessAttemptsMax) throw error;
}
