/**
 * An attempt with a second one beside it when its first token is later than this provider's usually are. Who
 * sends text first goes on; the other is cancelled, and nothing of it is charged.
 */
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import { type ChoiceDeps, emptyProgress } from "./attempt.ts";
import type { Occupied } from "../search/choose-provider.ts";
import { type Elsewhere, runMovable } from "./move.ts";
import {
  createRunner,
  type End,
  type Held,
  reportFailure,
  type Runner,
  type RunnerFacts,
  type Step,
} from "./runner.ts";

/** Sooner than this, a second attempt would not be sooner. */
const hedgeMinMs = 50;

interface Contender {
  readonly runner: Runner;
  readonly startMs: number;
  /** Never rejects. */
  readonly first: Promise<{ contender: Contender; step: Step | null; error: unknown }>;
}

/** Other providers for the same choice; both occupy what they find, and find nothing when there is nothing. */
export interface Others {
  /** For a second attempt from the beginning. */
  readonly second: () => Occupied | null;
  /** To go on with a stream that became slow. */
  readonly elsewhere: Elsewhere;
}

/**
 * The attempt itself where there is nothing to hedge: every token passes through one generator less.
 *
 * @throws (the generator) what the attempt that went on, or the first one, failed with
 */
export function runHedged(facts: RunnerFacts, held: Held, others: Others): AsyncGenerator<string, End> {
  const { deps } = facts;
  const delayMs = hedgeDelayMs(deps, held);
  deps.hedges.attempted();
  return delayMs === null
    ? runMovable(facts, held, createRunner(facts, held.to, held.progress), others.elsewhere)
    : race(facts, held, delayMs, others);
}

async function* race(
  facts: RunnerFacts,
  held: Held,
  delayMs: number,
  { second, elsewhere }: Others,
): AsyncGenerator<string, End> {
  const { deps } = facts;
  const contenders = [launch(facts, held)];
  try {
    // 1. The first one alone, for as long as it usually takes.
    const isLate = await isLaterThan(deps, contenders[0]!, delayMs);
    // 2. A second one beside it, if there is one and the budget allows.
    const other = isLate && deps.hedges.take() ? second() : null;
    if (other !== null) contenders.push(launch(facts, { to: other, progress: emptyProgress() }));
    // 3. Who sends text first goes on.
    const { contender, step } = await firstOf(deps, contenders, held);
    if (other !== null) settleHedge(deps, contenders, contender);
    const { runner } = contender;
    Object.assign(held, { to: runner.to, progress: runner.progress });
    if (step.done === true) return step.value;
    yield step.value;
    return yield* runMovable(facts, held, runner, elsewhere);
  } finally {
    for (const { runner } of contenders) runner.stop();
  }
}

/** Null: too little is known of the provider, or somebody has seen text already. */
function hedgeDelayMs({ directory }: ChoiceDeps, { to, progress }: Held): number | null {
  const { latenessP95 } = to.entry.served(to.candidate.offer.modelId).pace;
  if (latenessP95 === null || progress.position > 0) return null;
  if (directory.servingCount(to.candidate.offer.modelId, to.candidate.offer.modelId) < 2) return null;
  return Math.max(hedgeMinMs, latenessP95 * to.predictedTtftMs);
}

function launch(facts: RunnerFacts, { to, progress }: Pick<Held, "to" | "progress">): Contender {
  const runner = createRunner(facts, to, progress);
  const first = runner.texts.next();
  const contender: Contender = {
    runner,
    startMs: facts.deps.clock.monotonicMs(),
    first: first.then(
      (step) => ({ contender, step, error: null }),
      (error: unknown) => ({ contender, step: null, error }),
    ),
  };
  return contender;
}

async function isLaterThan({ clock }: ChoiceDeps, contender: Contender, delayMs: number): Promise<boolean> {
  let cancel = (): void => undefined;
  const timer = new Promise<true>((resolve) => (cancel = clock.schedule(delayMs, () => resolve(true))));
  const isLate = await Promise.race([timer, contender.first.then(() => false)]);
  cancel();
  // A token without text is a token: a character is not whole yet.
  return isLate && contender.runner.progress.position === 0;
}

/** @throws the first attempt's error when all fail */
async function firstOf(
  deps: ChoiceDeps,
  contenders: readonly Contender[],
  held: Held,
): Promise<{ contender: Contender; step: Step }> {
  let left = [...contenders];
  while (left.length > 0) {
    const { contender, step, error } = await Promise.race(left.map(({ first }) => first));
    if (step !== null) return { contender, step };
    left = left.filter((other) => other !== contender);
    // The last error of all is the loop's over attempts to judge; of the others this is the end.
    if (left.length > 0) reportFailure(deps, contender.runner.to, toSkeinError(error));
    else {
      const { to, progress } = contender.runner;
      Object.assign(held, { to, progress });
      throw error;
    }
  }
  throw new SkeinError("internal_error", "No attempt was made.");
}

function settleHedge(
  { metrics, clock }: ChoiceDeps,
  contenders: readonly Contender[],
  winner: Contender,
): void {
  metrics.hedged(winner === contenders[0] ? "lost" : "won");
  const loser = contenders.find((contender) => contender !== winner)!;
  // At least so late: without those that were overtaken, the slowest twentieth would look ever faster.
  const { to } = loser.runner;
  const elapsedMs = clock.monotonicMs() - loser.startMs;
  to.entry.served(to.candidate.offer.modelId).pace.learnLateness(elapsedMs / Math.max(1, to.predictedTtftMs));
  loser.runner.stop();
}
