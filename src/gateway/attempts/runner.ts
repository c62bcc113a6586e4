/** An attempt that can be stopped for itself, beside others of the same choice. */
import type { GenerateEvent } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
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
export type Step = IteratorResult<string, End>;

export interface Runner extends Attempt {
  readonly texts: AsyncGenerator<string, End>;
  /** Its next wait for the provider ends with an error; what it has is kept. */
  interrupt(): void;
  /** Ends it, whatever it does. Idempotent. */
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
}

/** The request is sent when the first text is asked for. */
export function createRunner(
  { deps, request, watch, signal: outer }: RunnerFacts,
  to: Occupied,
  progress: Progress,
): Runner {
  const abort = new AbortController();
  const onAbort = (): void => abort.abort(outer.reason);
  if (outer.aborted) onAbort();
  outer.addEventListener("abort", onAbort, { once: true });
  const attempt = newAttempt(deps, to, progress);
  const texts = runAttempt(deps, request, attempt, watch, abort.signal);
  const interrupt = (): void => {
    outer.removeEventListener("abort", onAbort);
    abort.abort(new SkeinError("cancelled", "Another attempt was faster."));
  };
  return {
    ...attempt,
    texts,
    interrupt,
    stop() {
      interrupt();
      texts.return(undefined as never).catch(() => undefined);
    },
  };
}

/** Of an attempt whose failure the client does not see, because another one goes on. */
export function reportFailure({ directory, metrics }: ChoiceDeps, to: Occupied, error: SkeinError): void {
  metrics.attempted(error.code);
  const isItsFault = error.code !== "overloaded" && error.retry !== "never";
  if (isItsFault) directory.reportFailure(to.entry, to.candidate.offer.modelId, error);
}
