/**
 * Continuous batching: every step evaluates one token of each decoding sequence and fair chunks of the prompts that are
 * still being read. Sequences come and go between steps.
 */
import { setImmediate as afterMessages } from "node:timers/promises";
import type { PagedExecutor } from "../../exact/executor.ts";
import type { GenerateEvent } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { planStep, type Share, type StepLimits } from "../step-plan.ts";
import { ContextPool } from "./contexts.ts";
import { Pace } from "./pace.ts";
import { Schedule } from "./schedule.ts";
import type { Sequence } from "./sequence.ts";

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
  readonly #pace = new Pace();
  #running = false;
  #steps = 0;

  constructor(executor: PagedExecutor, events: BatchLoopEvents) {
    this.#executor = executor;
    this.#events = events;
    this.#schedule = new Schedule(executor, new ContextPool(executor));
  }

  /** It begins at once where its prompt fits. @throws SkeinError `overloaded` when there is no memory at all */
  add(sequence: Sequence): void {
    this.#schedule.add(sequence);
    this.wake();
  }

  /** Takes effect at the next step. */
  remove(sequence: Sequence): void {
    this.#schedule.remove(sequence);
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
        for (const sequence of active) this.#schedule.discard(sequence);
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
    // 2. One step for all of them.
    this.#steps += 1;
    for (const { sequence } of shares) sequence.servedAt = this.#steps;
    const rows = shares.flatMap(rowsOf);
    const outputs = this.#executor.step(rows);
    const stepMs = performance.now() - startMs;
    for (const { sequence } of shares) sequence.answer.account(stepMs);
    this.#pace.learn(rows.length, stepMs);
    // 3. One draw for everybody whose logits are there.
    const events: (readonly [Sequence, GenerateEvent])[] = [];
    let row = -1;
    for (const { sequence, count } of shares) {
      row += count;
      const { tokens } = sequence;
      const { cells } = sequence.context!;
      cells.push(...tokens.slice(cells.length, cells.length + count));
      const logits = outputs[row]!;
      if (logits !== null) events.push(...this.#draw(sequence, logits));
    }
    // 4. All events of the step at once.
    this.#events.onStep(events);
  }

  #draw(sequence: Sequence, logits: Int32Array): StepEvents {
    const startMs = performance.now();
    const events = sequence.draw(logits);
    sequence.answer.account(performance.now() - startMs);
    sequence.unreadEvents += 1;
    if (events.at(-1)?.type === "end") this.#schedule.remove(sequence);
    return events.map((event) => [sequence, event] as const);
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

function rowsOf({ sequence, count }: Share<Sequence>) {
  const { tokens, pending, context } = sequence;
  const { cells, cache } = context!;
  return tokens.slice(cells.length, cells.length + count).map((input, i) => ({
    sequence: cache,
    input,
    wantsLogits: count === pending && i === count - 1,
  }));
}
