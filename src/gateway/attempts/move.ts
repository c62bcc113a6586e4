/**
 * A stream whose provider became slow goes on elsewhere: a second attempt gets what was emitted, while the first one
 * goes on. When the second has reached the stream's position it takes over, and the first one is cancelled. What both
 * generated is delivered and charged once; where they differ, the second one is dropped.
 */
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
  readonly hasEnded: boolean;
  /** Since its first text: it only repeated. */
  readonly repeatedMs: number;
  /** It waits for this before it tells more. */
  readonly goOn: () => void;
}

/** Runs an attempt to its end, wherever that is. `held` tells who answers. @throws as `runAttempt` */
export async function runMovable(
  facts: RunnerFacts,
  held: Held,
  first: Runner,
  elsewhere: Elsewhere,
): Promise<End> {
  let runner = first;
  for (;;) {
    const move = new Move(facts, held, runner, elsewhere);
    try {
      return await runner.ended;
    } catch (thrown) {
      const taken = await move.taken(toSkeinError(thrown));
      if (taken === null) throw thrown;
      const text = takeOver(held, taken);
      runner = taken.runner;
      runner.tellTo(facts.tell);
      try {
        if (text !== "") await facts.tell(text);
      } finally {
        taken.goOn();
      }
    } finally {
      move.stop();
    }
  }
}

/** Makes the second attempt the one that counts; returns what of its text nobody has seen. */
function takeOver(held: Held, { runner, repeatedMs, hasEnded }: Taken): string {
  const { progress: first } = held;
  const { progress } = runner;
  const outputTokens = progress.position - first.position;
  // One that has ended was charged by itself, from where it began.
  const charged = hasEnded ? progress.slices.slice(-1) : [];
  progress.slices = [...first.slices, ...charged.map((slice) => ({ ...slice, outputTokens, durationMs: 0 }))];
  progress.repeatedMs = hasEnded ? 0 : repeatedMs;
  const own = progress.parts.filter((part) => !first.parts.includes(part));
  const textFrom = runner.startText.length;
  // What both delivered stands in both: the second one says where it began, at its end, if that is still to come.
  progress.parts = [...first.parts, ...own.map((part) => ({ ...part, textFrom }))];
  progress.textFrom = own.length === 0 ? textFrom : null;
  Object.assign(held, { to: runner.to, progress, moves: held.moves + 1 });
  return progress.text.slice(first.text.length);
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
    const { signal } = this.#facts;
    if (this.#chase === null || signal.aborted) return null;
    if (!this.#isInterrupted && (error.retry === "never" || error.code === "overloaded")) return null;
    const hasFailed = !this.#isInterrupted;
    const taken = await this.#chase;
    if (taken !== null && hasFailed) reportFailure(this.#facts, this.#runner, error);
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
    this.#chase = this.#catchUp(other, copy, pace);
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

  /** Runs a second attempt until it is where the stream is. Never rejects. */
  async #catchUp(other: Occupied, copy: Progress, { msPerToken }: StreamPace): Promise<Taken | null> {
    const { clock } = this.#facts.deps;
    const { to, progress: first } = this.#runner;
    let firstMs: number | null = null;
    let where: Standing = "behind";
    const isThere = Promise.withResolvers<void>();
    const mayGoOn = Promise.withResolvers<void>();
    /** At once: where it has caught up, the first one must not go on by another token. */
    const look = (): void => {
      firstMs ??= clock.monotonicMs();
      where = standing(first, copy);
      if (where !== "caught_up" || this.#record === null) return;
      this.#settle("taken_over");
      to.entry.served(to.candidate.offer.modelId).pace.learnSlowness(msPerToken);
      this.#isInterrupted = true;
      this.#runner.stop();
    };
    const second = createRunner(this.#facts, other, copy, () => {
      look();
      if (where === "behind") return undefined;
      isThere.resolve();
      return mayGoOn.promise;
    });
    this.#stopSecond = () => {
      second.stop();
      mayGoOn.resolve();
    };
    const cancelTimeout = clock.schedule(this.#policy.catchUpMaxMs, () => {
      this.#settle("too_slow");
      this.#stopSecond();
    });
    try {
      const hasEnded = await Promise.race([isThere.promise.then(() => false), second.ended.then(() => true)]);
      if (where === "behind") look();
      if (!this.#isInterrupted) return this.#drop(this.#record === null ? "not_needed" : "different");
      const repeatedMs = clock.monotonicMs() - (firstMs ?? clock.monotonicMs());
      return { runner: second, hasEnded, repeatedMs, goOn: mayGoOn.resolve };
    } catch (thrown) {
      const wasStopped = this.#record === null || this.#facts.signal.aborted;
      if (!wasStopped) reportFailure(this.#facts, second, toSkeinError(thrown));
      return this.#drop("failed");
    } finally {
      cancelTimeout();
    }
  }

  #drop(outcome: MoveRecord["outcome"]): null {
    this.#settle(outcome);
    this.#stopSecond();
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

type Standing = "behind" | "caught_up" | "different";

/** Where a second attempt stands against the stream that it is to take over. */
function standing(stream: Progress, second: Progress): Standing {
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
