/**
 * An attempt with a second one beside it when its first token is later than this provider's usually are. Who
 * sends text first goes on; the other is cancelled, and nothing of it is charged.
 */
import type { GenerateEvent } from "../protocol/generate.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import { type ChoiceDeps, type ChoiceRequest, emptyProgress, type Progress, runAttempt } from "./attempt.ts";
import type { Occupied } from "./choose-provider.ts";
import type { Piece } from "./logprobs.ts";
import type { Stopwatch } from "./stopwatch.ts";

/** Second attempts per attempt, so that duplicate work stays below 3 % even when a whole network slows down. */
const hedgeShareMax = 0.025;
/** Unused shares that are kept for a bad moment. */
const hedgesSavedMax = 5;
/** Sooner than this, a second attempt would not be sooner. */
const hedgeMinMs = 50;

/** Counts how many second attempts may be made. */
export class HedgeBudget {
  #saved = 1;

  attempted(): void {
    this.#saved = Math.min(hedgesSavedMax, this.#saved + hedgeShareMax);
  }

  take(): boolean {
    if (this.#saved < 1) return false;
    this.#saved -= 1;
    return true;
  }
}

/** Who answers now, and what came of it; changes when the second attempt wins. */
export interface Held {
  to: Occupied;
  progress: Progress;
}

type End = Extract<GenerateEvent, { type: "end" }>;
type Step = IteratorResult<Piece, End>;

interface Runner {
  readonly to: Occupied;
  readonly progress: Progress;
  readonly startMs: number;
  readonly texts: AsyncGenerator<Piece, End>;
  /** Never rejects. */
  readonly first: Promise<{ runner: Runner; step: Step | null; error: unknown }>;
  stop(): void;
}

/**
 * @param second finds and occupies another provider; null: there is none
 * @throws what the attempt that went on, or the first one, failed with
 */
export async function* runHedged(
  deps: ChoiceDeps,
  request: ChoiceRequest,
  held: Held,
  watch: Stopwatch,
  signal: AbortSignal,
  second: () => Occupied | null,
): AsyncGenerator<Piece, End> {
  const delayMs = hedgeDelayMs(deps, held);
  deps.hedges.attempted();
  if (delayMs === null) return yield* runAttempt(deps, request, held.to, held.progress, watch, signal);
  const launch = (to: Occupied, progress: Progress): Runner =>
    startRunner(deps, request, { to, progress }, watch, signal);
  const runners = [launch(held.to, held.progress)];
  try {
    // 1. The first one alone, for as long as it usually takes.
    const isLate = await isLaterThan(deps, runners[0]!, delayMs);
    // 2. A second one beside it, if there is one and the budget allows.
    const other = isLate && deps.hedges.take() ? second() : null;
    if (other !== null) runners.push(launch(other, emptyProgress()));
    // 3. Who sends text first goes on.
    const { runner, step } = await firstOf(deps, runners, held);
    if (other !== null) settleHedge(deps, runners, runner);
    Object.assign(held, { to: runner.to, progress: runner.progress });
    if (step.done === true) return step.value;
    yield step.value;
    return yield* runner.texts;
  } finally {
    for (const runner of runners) runner.stop();
  }
}

/** Null: too little is known of the provider, or somebody has seen text already. */
function hedgeDelayMs({ directory }: ChoiceDeps, { to, progress }: Held): number | null {
  const { latenessP95 } = to.entry.served(to.candidate.offer.modelId).pace;
  if (latenessP95 === null || progress.position > 0) return null;
  if (directory.servingCount(to.candidate.offer.modelId, to.candidate.offer.modelId) < 2) return null;
  return Math.max(hedgeMinMs, latenessP95 * to.predictedTtftMs);
}

function startRunner(
  deps: ChoiceDeps,
  request: ChoiceRequest,
  { to, progress }: Held,
  watch: Stopwatch,
  outer: AbortSignal,
): Runner {
  const abort = new AbortController();
  const onAbort = (): void => abort.abort(outer.reason);
  if (outer.aborted) onAbort();
  outer.addEventListener("abort", onAbort, { once: true });
  const texts = runAttempt(deps, request, to, progress, watch, abort.signal);
  const first = texts.next();
  const runner: Runner = {
    to,
    progress,
    startMs: deps.clock.monotonicMs(),
    texts,
    first: first.then(
      (step) => ({ runner, step, error: null }),
      (error: unknown) => ({ runner, step: null, error }),
    ),
    stop() {
      outer.removeEventListener("abort", onAbort);
      abort.abort(new SkeinError("cancelled", "Another attempt was faster."));
      texts.return(undefined as never).catch(() => undefined);
    },
  };
  return runner;
}

async function isLaterThan({ clock }: ChoiceDeps, runner: Runner, delayMs: number): Promise<boolean> {
  let cancel = (): void => undefined;
  const timer = new Promise<true>((resolve) => (cancel = clock.schedule(delayMs, () => resolve(true))));
  const isLate = await Promise.race([timer, runner.first.then(() => false)]);
  cancel();
  // A token without text is a token: a character is not whole yet.
  return isLate && runner.progress.position === 0;
}

/** @throws the first attempt's error when all fail */
async function firstOf(
  deps: ChoiceDeps,
  runners: readonly Runner[],
  held: Held,
): Promise<{ runner: Runner; step: Step }> {
  let left = [...runners];
  while (left.length > 0) {
    const { runner, step, error } = await Promise.race(left.map(({ first }) => first));
    if (step !== null) return { runner, step };
    left = left.filter((other) => other !== runner);
    // The last error of all is the loop's over attempts to judge; of the others this is the end.
    if (left.length > 0) reportFailure(deps, runner, toSkeinError(error));
    else {
      Object.assign(held, { to: runner.to, progress: runner.progress });
      throw error;
    }
  }
  throw new SkeinError("internal_error", "No attempt was made.");
}

function reportFailure({ directory, metrics }: ChoiceDeps, { to }: Runner, error: SkeinError): void {
  metrics.attempted(error.code);
  const isItsFault = error.code !== "overloaded" && error.retry !== "never";
  if (isItsFault) directory.reportFailure(to.entry, to.candidate.offer.modelId, error);
}

function settleHedge({ metrics, clock }: ChoiceDeps, runners: readonly Runner[], winner: Runner): void {
  metrics.hedged(winner === runners[0] ? "lost" : "won");
  const loser = runners.find((runner) => runner !== winner)!;
  // At least so late: without those that were overtaken, the slowest twentieth would look ever faster.
  const { to, startMs } = loser;
  const elapsedMs = clock.monotonicMs() - startMs;
  to.entry.served(to.candidate.offer.modelId).pace.learnLateness(elapsedMs / Math.max(1, to.predictedTtftMs));
  loser.stop();
}
