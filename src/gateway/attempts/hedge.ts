/**
 * An attempt with a second one beside it when its first token is later than this provider's usually are. Who
 * sends text first goes on; the other is cancelled, and nothing of it is charged.
 */
import { toSkeinError } from "../../util/errors.ts";
import { type ChoiceDeps, emptyProgress } from "./attempt.ts";
import type { Occupied } from "../search/choose-provider.ts";
import { type Elsewhere, runMovable } from "./move.ts";
import { createRunner, type End, type Held, reportFailure, type Runner, type RunnerFacts } from "./runner.ts";

/** Sooner than this, a second attempt would not be sooner. */
const hedgeMinMs = 50;

interface Contender {
  readonly runner: Runner;
  readonly startMs: number;
}

/** Other providers for the same choice; both occupy what they find, and find nothing when there is nothing. */
export interface Others {
  /** For a second attempt from the beginning. */
  readonly second: () => Occupied | null;
  /** To go on with a stream that became slow. */
  readonly elsewhere: Elsewhere;
}

/** @throws what the attempt that went on, or the first one, failed with */
export async function runHedged(facts: RunnerFacts, held: Held, others: Others): Promise<End> {
  const { deps, tell } = facts;
  const delayMs = hedgeDelayMs(deps, held);
  deps.hedges.attempted();
  const runner =
    delayMs === null
      ? createRunner(facts, held.to, held.progress, tell)
      : await new Race(facts, held, others.second).run(delayMs);
  return runMovable(facts, held, runner, others.elsewhere);
}

/** Null: too little is known of the provider, or somebody has seen text already. */
function hedgeDelayMs({ directory }: ChoiceDeps, { to, progress }: Held): number | null {
  const { latenessP95 } = to.entry.served(to.candidate.offer.modelId).pace;
  if (latenessP95 === null || progress.position > 0) return null;
  if (directory.servingCount(to.candidate.offer.modelId, to.candidate.offer.modelId) < 2) return null;
  return Math.max(hedgeMinMs, latenessP95 * to.predictedTtftMs);
}

/** Attempts side by side, until one of them has text or has ended. */
class Race {
  readonly #facts: RunnerFacts;
  readonly #held: Held;
  readonly #second: Others["second"];
  readonly #contenders: Contender[] = [];
  readonly #won: PromiseWithResolvers<Runner> = Promise.withResolvers();
  #running = 0;
  #isDecided = false;

  constructor(facts: RunnerFacts, held: Held, second: Others["second"]) {
    this.#facts = facts;
    this.#held = held;
    this.#second = second;
  }

  /** @throws the last attempt's error when all fail */
  async run(delayMs: number): Promise<Runner> {
    // 1. The first one alone, for as long as it usually takes.
    this.#launch(this.#held);
    const cancelTimer = this.#facts.deps.clock.schedule(delayMs, () => this.#isLate());
    try {
      return await this.#won.promise;
    } finally {
      cancelTimer();
    }
  }

  /** 2. A second one beside it, if there is one and the budget allows. */
  #isLate(): void {
    const { deps, signal } = this.#facts;
    // A token without text is a token: a character is not whole yet.
    if (this.#isDecided || signal.aborted || this.#held.progress.position > 0 || !deps.hedges.take()) return;
    const to = this.#second();
    if (to !== null) this.#launch({ to, progress: emptyProgress() });
  }

  #launch({ to, progress }: Pick<Held, "to" | "progress">): void {
    const { deps, tell } = this.#facts;
    const runner = createRunner(this.#facts, to, progress, (text) => {
      this.#wins(contender);
      return tell(text);
    });
    const contender: Contender = { runner, startMs: deps.clock.monotonicMs() };
    this.#contenders.push(contender);
    this.#running += 1;
    runner.ended.then(
      () => this.#wins(contender),
      (error: unknown) => this.#fails(contender, error),
    );
  }

  /** 3. Who sends text first goes on. */
  #wins(contender: Contender): void {
    if (this.#isDecided) return;
    this.#decide(contender);
    if (this.#contenders.length > 1) settleHedge(this.#facts.deps, this.#contenders, contender);
    contender.runner.tellTo(this.#facts.tell);
    this.#won.resolve(contender.runner);
  }

  /** The last error of all is the loop's over attempts to judge; of the others this is the end. */
  #fails(contender: Contender, error: unknown): void {
    this.#running -= 1;
    if (this.#isDecided) return;
    if (this.#running > 0) {
      return reportFailure(this.#facts, contender.runner, toSkeinError(error));
    }
    this.#decide(contender);
    this.#won.reject(error);
  }

  #decide({ runner: { to, progress } }: Contender): void {
    this.#isDecided = true;
    Object.assign(this.#held, { to, progress });
  }
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
