/**
 * A stream whose provider became slow goes on elsewhere: a second attempt gets what was emitted, while the first one
 * goes on. When the second has reached the stream's position it takes over, and the first one is cancelled. What both
 * generated is delivered and charged once; where they differ, the second one is dropped.
 */
import type { Part } from "../../receipt/document.ts";
import { isSlow, isWorthMoving, PaceWindow, type StreamPace } from "../../router/move.ts";
import { type SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Progress } from "./attempt.ts";
import type { Chosen, Occupied } from "../search/choose-provider.ts";
import { createRunner, type End, type Held, reportFailure, type Runner, type RunnerFacts } from "./runner.ts";
import type { Ticking } from "./ticker.ts";

/** Why a stream was to go on elsewhere, and what came of it: shown by `skein why`. */
export interface MoveRecord {
  readonly fromId: string;
  readonly position: number;
  readonly pace: StreamPace;
  outcome: "running" | "taken_over" | "not_needed" | "different" | "failed" | "too_slow";
}

/** Finds and occupies another provider that can go on with a stream, if it is worth it; null: there is none. */
export type Elsewhere = (
  progress: Progress,
  record: MoveRecord,
  isWorth: (chosen: Chosen) => boolean,
) => Occupied | null;

interface Taken {
  readonly runner: Runner;
  /** It has ended already. */
  readonly end: End | null;
  /** Since its first text: it only repeated. */
  readonly repeatedMs: number;
}

/** Runs an attempt to its end, wherever that is. `held` tells who answers. @throws as `runAttempt` */
export async function* runMovable(
  facts: RunnerFacts,
  held: Held,
  first: Runner,
  elsewhere: Elsewhere,
): AsyncGenerator<string, End> {
  let runner = first;
  try {
    for (;;) {
      const move = new Move(facts, held, runner, elsewhere);
      try {
        return yield* runner.texts;
      } catch (thrown) {
        const taken = await move.taken(toSkeinError(thrown));
        if (taken === null) throw thrown;
        const text = takeOver(held, taken);
        runner = taken.runner;
        if (text !== "") yield text;
        if (taken.end !== null) return taken.end;
      } finally {
        move.stop();
      }
    }
  } finally {
    runner.stop();
  }
}

/** Makes the second attempt the one that counts; returns what of its text nobody has seen. */
function takeOver(held: Held, { runner, repeatedMs, end }: Taken): string {
  const { progress: first } = held;
  const { progress } = runner;
  const outputTokens = progress.position - first.position;
  // One that has ended was charged by itself, from where it began.
  const own = end === null ? [] : progress.slices.slice(-1);
  progress.slices = [...first.slices, ...own.map((slice) => ({ ...slice, outputTokens, durationMs: 0 }))];
  progress.repeatedMs = end === null ? repeatedMs : 0;
  progress.parts = joinedParts(first, runner);
  progress.textFrom = end === null ? runner.startText.length : null;
  Object.assign(held, { to: runner.to, progress, moves: held.moves + 1 });
  return progress.text.slice(first.text.length);
}

/** What both delivered stands in both: the second one says where it began. */
function joinedParts(first: Progress, { progress, startText }: Runner): Part[] {
  const own = progress.parts.filter((part) => !first.parts.includes(part));
  return [...first.parts, ...own.map((part) => ({ ...part, textFrom: startText.length }))];
}

/** Watches one attempt, and tries others beside it when it is slow. */
class Move implements Ticking {
  readonly #facts: RunnerFacts;
  readonly #runner: Runner;
  readonly #elsewhere: Elsewhere;
  readonly #window: PaceWindow;
  readonly #leave: () => void;
  #triesLeft: number;
  #pausedUntilMs = 0;
  #chase: Promise<Taken | null> | null = null;
  #record: MoveRecord | null = null;
  #isInterrupted = false;
  #stopSecond = (): void => undefined;

  constructor(facts: RunnerFacts, held: Held, runner: Runner, elsewhere: Elsewhere) {
    const { deps } = facts;
    const { offer } = runner.to.candidate;
    const policy = deps.directory.policy.move;
    this.#facts = facts;
    this.#runner = runner;
    this.#elsewhere = elsewhere;
    this.#window = new PaceWindow(policy, runner.to.entry.served(offer.modelId).pace.tpotMs);
    this.#triesLeft = policy.movesMax - held.moves;
    this.#leave = offer.resumable ? deps.ticker.add(this) : () => undefined;
  }

  tick(stoodStill: boolean): void {
    if (this.#chase !== null) return;
    if (stoodStill) return this.#window.forget();
    const { stall, watch, progress, startPosition } = this.#runner;
    const tokens = Math.max(0, progress.position - startPosition - 1);
    const pace = this.#window.look(stall.waitedMs(watch.elapsedMs), tokens);
    if (pace === null || !isSlow(pace, this.#policy)) return;
    this.#tryElsewhere(pace);
  }

  /** What goes on instead of the attempt that failed with `error`; null: nothing. */
  async taken(error: SkeinError): Promise<Taken | null> {
    const { deps, signal } = this.#facts;
    if (this.#chase === null || signal.aborted) return null;
    if (!this.#isInterrupted && (error.retry === "never" || error.code === "overloaded")) return null;
    const hasFailed = !this.#isInterrupted;
    const taken = await this.#chase;
    if (taken !== null && hasFailed) reportFailure(deps, this.#runner.to, error);
    if (taken === null || signal.aborted) return null;
    this.#stopSecond = () => undefined;
    return taken;
  }

  stop(): void {
    this.#leave();
    this.#settle("not_needed");
    this.#stopSecond();
  }

  get #policy() {
    return this.#facts.deps.directory.policy.move;
  }

  #tryElsewhere(pace: StreamPace): void {
    const { deps } = this.#facts;
    const nowMs = deps.clock.monotonicMs();
    if (nowMs < this.#pausedUntilMs || this.#triesLeft <= 0 || deps.hedges.isSpent) return;
    this.#pausedUntilMs = nowMs + this.#policy.pauseMs;
    const { progress, to } = this.#runner;
    const fromId = to.candidate.providerId;
    const record: MoveRecord = { fromId, position: progress.position, pace, outcome: "running" };
    const other = this.#elsewhere(progress, record, (chosen) => this.#isWorth(pace, chosen));
    if (other === null) return;
    deps.hedges.take();
    this.#triesLeft -= 1;
    this.#record = record;
    // Its own copy: both grow from here.
    const { tokenIds, logprobs, slices, parts } = progress;
    const copy = {
      ...progress,
      tokenIds: [...tokenIds],
      logprobs: [...logprobs],
      slices: [...slices],
      parts: [...parts],
    };
    const second = createRunner(this.#facts, other, copy);
    this.#stopSecond = () => second.stop();
    this.#chase = this.#catchUp(second, pace);
  }

  #isWorth(pace: StreamPace, { candidate, predictedTtftMs: ttftMs }: Chosen): boolean {
    const { request, deps } = this.#facts;
    const { position, promptTokens } = this.#runner.progress;
    const { expectedOutputTokens, unknownTpotMs } = deps.directory.policy;
    const room = Math.max(0, candidate.offer.contextTokensMax - promptTokens);
    const longest = Math.min(request.outputTokensMax ?? room, room) - position;
    const tokensLeft = Math.max(1, Math.min(longest, expectedOutputTokens));
    const stream = { tokensEmitted: position, tokensLeft };
    return isWorthMoving(pace, stream, { candidate, ttftMs, unknownTpotMs }, this.#policy);
  }

  /** Runs the second attempt until it is where the stream is. Never rejects. */
  async #catchUp(second: Runner, { msPerToken }: StreamPace): Promise<Taken | null> {
    const { clock } = this.#facts.deps;
    const { to, progress: first } = this.#runner;
    const cancelTimeout = clock.schedule(this.#policy.catchUpMaxMs, () => {
      this.#settle("too_slow");
      second.stop();
    });
    let firstMs: number | null = null;
    try {
      for (;;) {
        const step = await second.texts.next();
        if (this.#record === null) return this.#drop(second, "not_needed");
        firstMs ??= clock.monotonicMs();
        const behind = standing(first, second.progress);
        if (behind === "different" || (behind === "behind" && step.done === true)) {
          return this.#drop(second, "different");
        }
        if (behind === "behind") continue;
        this.#settle("taken_over");
        to.entry.served(to.candidate.offer.modelId).pace.learnSlowness(msPerToken);
        this.#isInterrupted = true;
        this.#runner.interrupt();
        const end = step.done === true ? step.value : null;
        return { runner: second, end, repeatedMs: clock.monotonicMs() - firstMs };
      }
    } catch (thrown) {
      const wasStopped = this.#record === null || this.#facts.signal.aborted;
      if (!wasStopped) reportFailure(this.#facts.deps, second.to, toSkeinError(thrown));
      return this.#drop(second, "failed");
    } finally {
      cancelTimeout();
    }
  }

  #drop(second: Runner, outcome: MoveRecord["outcome"]): null {
    this.#settle(outcome);
    second.stop();
    this.#window.forget();
    this.#chase = null;
    return null;
  }

  /** How the present try ended; the first word counts. */
  #settle(outcome: MoveRecord["outcome"]): void {
    if (this.#record === null) return;
    this.#record.outcome = outcome;
    this.#record = null;
    this.#facts.deps.metrics.moved(outcome === "taken_over" ? "won" : "lost");
  }
}

/** Where a second attempt stands against the stream that it is to take over. */
function standing(stream: Progress, second: Progress): "behind" | "caught_up" | "different" {
  const count = Math.min(stream.tokenIds.length, second.tokenIds.length);
  for (let i = 0; i < count; i++) if (stream.tokenIds[i] !== second.tokenIds[i]) return "different";
  if (!stream.idsComplete || !second.idsComplete) return "different";
  const [short, long] = [stream.text, second.text].toSorted((a, b) => a.length - b.length) as [
    string,
    string,
  ];
  if (!long.startsWith(short)) return "different";
  return second.position >= stream.position && second.text.length >= stream.text.length
    ? "caught_up"
    : "behind";
}
