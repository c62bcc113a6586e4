/** An attempt that can be stopped for itself, beside others of the same choice. */
import type { GenerateEvent } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";
import {
  type Attempt,
  type ChoiceDeps,
  type ChoiceRequest,
  newAttempt,
  type Progress,
  runAttempt,
} from "./attempt.ts";
import type { Occupied } from "../search/choose-provider.ts";
import type { Stopwatch } from "./stopwatch.ts";

export type End = Extract<GenerateEvent, { type: "end" }>;

export interface Runner extends Attempt {
  /** How it ended. */
  readonly ended: Promise<End>;
  /** From now on its texts go there. */
  tellTo(tell: Sink<string>): void;
  /** Ends it, whatever it does; what it has is kept. Idempotent. */
  stop(): void;
}

/** Who answers now, and what came of it; changes when another attempt takes over. */
export interface Held {
  to: Occupied;
  progress: Progress;
  /** How often the stream was taken over by another provider. */
  moves: number;
}

export interface RunnerFacts {
  readonly deps: ChoiceDeps;
  readonly request: ChoiceRequest;
  /** Of the whole choice. */
  readonly watch: Stopwatch;
  readonly signal: AbortSignal;
  /** Who is told the choice's text. */
  readonly tell: Sink<string>;
}

/** Begins an attempt. */
export function createRunner(
  { deps, request, watch, signal: outer }: RunnerFacts,
  to: Occupied,
  progress: Progress,
  tell: Sink<string>,
): Runner {
  const abort = new AbortController();
  const onAbort = (): void => abort.abort(outer.reason);
  if (outer.aborted) onAbort();
  outer.addEventListener("abort", onAbort, { once: true });
  const attempt = newAttempt(deps, to, progress);
  let goesTo = tell;
  const told = (text: string): Promise<void> | undefined => goesTo(text);
  const ended = runAttempt(deps, request, attempt, watch, abort.signal, told).finally(() =>
    outer.removeEventListener("abort", onAbort),
  );
  // Who waits for it hears of it.
  ended.catch(() => undefined);
  return {
    ...attempt,
    ended,
    tellTo: (other) => void (goesTo = other),
    stop: () => abort.abort(new SkeinError("cancelled", "Another attempt was faster.")),
  };
}

/** Of an attempt whose failure the client does not see, because another one goes on. */
export function reportFailure(
  { deps: { directory, metrics, decisions }, request }: Pick<RunnerFacts, "deps" | "request">,
  { to: { entry, candidate }, progress }: Pick<Runner, "to" | "progress">,
  error: SkeinError,
): void {
  metrics.attempted(error.code);
  decisions.failed(request.requestId, candidate.providerId, error, progress.position);
  const isItsFault = error.code !== "overloaded" && error.retry !== "never";
  if (isItsFault) directory.reportFailure(entry, candidate.offer.modelId, error);
}
