/**
 * Continuous batching: every step evaluates one token of each decoding sequence, with guesses behind it where they pay, and fair chunks of
 * the prompts that are still being read. Sequences come and go between steps.
 */
import { setImmediate as afterMessages } from "node:timers/promises";
import type { PagedExecutor, StepRow } from "../../exact/executor.ts";
import type { GenerateEvent } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { planStep, type Share, type StepLimits } from "../step-plan.ts";
import { ContextPool, forgetFrom } from "./contexts.ts";
import { Pace } from "./pace.ts";
import { Residuals } from "./residuals.ts";
import { StepHashes } from "./row-hashes.ts";
import { Schedule } from "./schedule.ts";
import type { Sequence } from "./sequence.ts";
import type { Guess, Speculation } from "./speculation.ts";

export type StepEvents = readonly (readonly [Sequence, GenerateEvent])[];

export interface BatchLoopEvents {
  /** All events of one step together; none is a sign of life. */
  onStep(events: StepEvents): void;
  /** A step could not be made: these sequences are lost. */
  onFailure(error: SkeinError, sequences: readonly Sequence[]): void;
}

/** Who is cancelled waits for the step that runs. */
const stepMsWanted = 500;
/** Who decodes waits for those who read beside it. */
const sharedStepMsWanted = 100;
/** Fewer rows would make reading slow without making steps much shorter: weights are read once for all of them. */
const prefillRowsMin = 8;

/** Refused before anything was computed: only these requests are lost. */
const harmless: readonly string[] = ["invalid_request", "context_length_exceeded", "overloaded"];

export class BatchLoop {
  readonly #executor: PagedExecutor;
  readonly #events: BatchLoopEvents;
  readonly #schedule: Schedule;
  readonly #hashes = new StepHashes();
  readonly #speculation: Speculation | null;
  readonly #pace = new Pace(0.95);
  /** Of steps in which nobody reads: rows that are drawn from cost more. Guesses are rare where they do not pay, so it remembers longer. */
  readonly #decodePace = new Pace(0.99);
  #running = false;
  #steps = 0;

  /** @param speculation who guesses ahead; null: nobody */
  constructor(executor: PagedExecutor, events: BatchLoopEvents, speculation: Speculation | null) {
    this.#executor = executor;
    this.#events = events;
    this.#speculation = speculation;
    this.#schedule = new Schedule(new ContextPool(executor));
  }

  /** It begins at once where its prompt fits. @throws SkeinError `overloaded` when there is no memory at all */
  add(sequence: Sequence): void {
    this.#schedule.add(sequence);
    this.wake();
  }

  /** Takes effect at the next step. */
  remove(sequence: Sequence): void {
    this.#end(sequence);
    this.wake();
  }

  /** Something changed: a sequence came or left, or a paused one was read. */
  wake(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    for (;;) {
      // New requests, cancellations and acknowledgements are taken in here.
      await afterMessages();
      this.#schedule.admit();
      const active = this.#schedule.active();
      if (active.length === 0) break;
      try {
        this.#step(active);
      } catch (error) {
        // A trap in the kernels leaves their memory in doubt: the thread ends, and another one starts.
        if (!(error instanceof SkeinError) || !harmless.includes(error.code)) throw error;
        for (const sequence of active) {
          this.#schedule.discard(sequence);
          this.#speculation?.forget(sequence);
        }
        this.#events.onFailure(error, active);
      }
    }
    this.#running = false;
  }

  #step(active: readonly Sequence[]): void {
    // 1. Everybody's share, as far as there is memory for it.
    const startMs = performance.now();
    const shares = this.#schedule.makeRoom(planStep(active, this.#limits(active)));
    if (shares.length === 0) return;
    const guesses = this.#guess(shares);
    // 2. One step for all of them.
    this.#steps += 1;
    for (const { sequence } of shares) sequence.servedAt = this.#steps;
    const rows = shares.map((share) => rowsOf(share, guesses.get(share.sequence)));
    const guessedMs = performance.now();
    const wantsHashes = shares.flatMap(({ sequence }, i) => rows[i]!.map(() => sequence.hasRows));
    const residuals = new Residuals(this.#executor, readRows(shares, rows));
    const outputs = this.#executor.step(rows.flat(), residuals.beside(this.#hashes.listener(wantsHashes)));
    const endMs = performance.now();
    for (const { sequence } of shares) sequence.answer.account(endMs - startMs);
    this.#pace.learn(outputs.length, endMs - guessedMs);
    if (outputs.every((output) => output !== null)) this.#decodePace.learn(outputs.length, endMs - guessedMs);
    // 3. Draws for everybody whose logits are there, as far as they go on as guessed.
    let row = 0;
    const events = shares.flatMap(({ sequence, count }, i) => {
      const first = row;
      row += rows[i]!.length;
      for (let read = first; read < first + count; read++)
        this.#hold(sequence, rows[i]![read - first]!.input as number, read);
      const last = first + count - 1;
      const residual = residuals.of(last);
      if (residual !== undefined) {
        this.#end(sequence);
        sequence.reading!.done(residual);
        return [];
      }
      if (outputs[last] === null) return [];
      return this.#draw(sequence, outputs.slice(last, row), last, guesses.get(sequence));
    });
    // 4. All events of the step at once.
    this.#events.onStep(events);
  }

  /** What may come next, where there are rows and pages for it. */
  #guess(shares: readonly Share<Sequence>[]): ReadonlyMap<Sequence, Guess> {
    const rows = shares.reduce((sum, { count }) => sum + count, 0);
    const rowsLeft = this.#executor.rowsMax - rows;
    const guesses = this.#speculation?.propose(shares, rowsLeft, this.#decodePace) ?? noGuesses;
    const wishes = shares.map(({ sequence, count }) => {
      return { sequence, count: count + (guesses.get(sequence)?.tokens.length ?? 0) };
    });
    return guesses.size > 0 && this.#schedule.hasRoom(wishes) ? guesses : noGuesses;
  }

  #hold(sequence: Sequence, token: number, row: number): void {
    sequence.hold(token, sequence.hasRows ? this.#hashes.of(row) : []);
  }

  #draw(
    sequence: Sequence,
    logits: readonly (Int32Array | null)[],
    last: number,
    guess: Guess | undefined,
  ): StepEvents {
    try {
      return this.#drawAll(sequence, logits, last, guess);
    } catch (error) {
      // Its constraint cannot be kept: others are not concerned.
      if (!(error instanceof SkeinError)) throw error;
      this.#schedule.discard(sequence);
      this.#speculation?.forget(sequence);
      this.#events.onFailure(error, [sequence]);
      return [];
    }
  }

  /** @param logits behind the last token, and behind each guess. @param last the last token's row in the step */
  #drawAll(
    sequence: Sequence,
    logits: readonly (Int32Array | null)[],
    last: number,
    guess: Guess | undefined,
  ): StepEvents {
    const startMs = performance.now();
    const guessed = guess?.tokens ?? [];
    const events: GenerateEvent[] = [];
    let right = 0;
    for (const [i, own] of logits.entries()) {
      events.push(...sequence.draw(own!));
      sequence.unreadEvents += 1;
      if (events.at(-1)?.type === "end") break;
      // The row behind this guess is what the answer's own next token would have given.
      if (i === guessed.length || sequence.tokens.at(-1) !== guessed[i]) break;
      this.#hold(sequence, guessed[i]!, last + 1 + i);
      right += 1;
    }
    guess?.learn(right);
    // Guesses that were wrong leave no trace.
    if (guessed.length > 0) forgetFrom(sequence.context!, sequence.context!.cells.length);
    sequence.answer.account(performance.now() - startMs);
    if (events.at(-1)?.type === "end") this.#end(sequence);
    return events.map((event) => [sequence, event] as const);
  }

  #end(sequence: Sequence): void {
    this.#schedule.remove(sequence);
    this.#speculation?.forget(sequence);
  }

  #limits(active: readonly Sequence[]): StepLimits {
    const { rowsMax } = this.#executor;
    const decoding = active.filter(({ pending }) => pending === 1).length;
    const rowsWithin = (ms: number): number =>
      Math.min(rowsMax - decoding, Math.max(prefillRowsMin, this.#pace.rowsWithin(ms, decoding)));
    return {
      prefillTokensMax: rowsWithin(stepMsWanted),
      sharedPrefillTokensMax: rowsWithin(sharedStepMsWanted),
    };
  }
}

const noGuesses: ReadonlyMap<Sequence, Guess> = new Map();

function rowsOf({ sequence, count }: Share<Sequence>, guess: Guess | undefined): StepRow[] {
  const { tokens, pending, context, reading } = sequence;
  const { cells, cache } = context!;
  const chunk = [...tokens.slice(cells.length, cells.length + count), ...(guess?.tokens ?? [])];
  return chunk.map((input, i) => ({
    sequence: cache,
    input,
    wantsLogits: reading === null && count === pending && i >= count - 1,
  }));
}

/** Rows of the step whose residual vectors are wanted: the last ones of sequences that are only read. */
function readRows(shares: readonly Share<Sequence>[], rows: readonly StepRow[][]): number[] {
  let first = 0;
  return shares.flatMap(({ sequence, count }, i) => {
    const last = first + count - 1;
    first += rows[i]!.length;
    return sequence.reading !== null && count === sequence.pending ? [last] : [];
  });
}
