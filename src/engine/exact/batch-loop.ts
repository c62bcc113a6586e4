/**
 * Continuous batching: every step evaluates one token of each decoding sequence and fair chunks of the prompts that are
 * still being read. Sequences come and go between steps.
 */
import { setImmediate as afterMessages } from "node:timers/promises";
import type { Executor } from "../../exact/executor.ts";
import type { GenerateEvent } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { planStep, type StepLimits } from "../step-plan.ts";
import { ownersOf, StepHashes } from "./row-hashes.ts";
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
/** Weight of a new sample in the moving average. */
const sampleWeight = 0.2;

/** Refused before anything was computed: only these requests are lost. */
const harmless: readonly string[] = ["invalid_request", "context_length_exceeded", "overloaded"];

export class BatchLoop {
  readonly #executor: Executor;
  readonly #events: BatchLoopEvents;
  readonly #sequences = new Set<Sequence>();
  readonly #hashes = new StepHashes();
  #running = false;
  #rowMs: number | null = null;

  constructor(executor: Executor, events: BatchLoopEvents) {
    this.#executor = executor;
    this.#events = events;
  }

  add(sequence: Sequence): void {
    this.#sequences.add(sequence);
    this.wake();
  }

  /** Takes effect at the next step. */
  remove(sequence: Sequence): void {
    this.#sequences.delete(sequence);
  }

  /** Something changed: a sequence came, or a paused one was read. */
  wake(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    for (;;) {
      // New requests, cancellations and acknowledgements are taken in here.
      await afterMessages();
      const active = [...this.#sequences].filter(({ paused }) => !paused);
      if (active.length === 0) break;
      try {
        this.#step(active);
      } catch (error) {
        // A trap in the kernels leaves their memory in doubt: the thread ends, and another one starts.
        if (!(error instanceof SkeinError) || !harmless.includes(error.code)) throw error;
        for (const sequence of active) this.#sequences.delete(sequence);
        this.#events.onFailure(error, active);
      }
    }
    this.#running = false;
  }

  #step(active: readonly Sequence[]): void {
    const startMs = performance.now();
    // 1. One step with everybody's share.
    const shares = planStep(active, this.#limits(active));
    const rows = shares.flatMap(({ sequence, count }) => {
      const { tokens, pending, slot } = sequence;
      const chunk = tokens.slice(slot.cells.length, slot.cells.length + count);
      return chunk.map((input, i) => ({
        sequence: slot.cache,
        input,
        wantsLogits: count === pending && i === count - 1,
      }));
    });
    const owners = ownersOf(shares);
    const outputs = this.#executor.step(rows, this.#hashes.listener(owners));
    this.#hashes.close(owners);
    const stepMs = performance.now() - startMs;
    for (const { sequence } of shares) sequence.answer.account(stepMs);
    this.#learnPace(stepMs / rows.length);
    // 2. One draw for everybody whose logits are there.
    const events: (readonly [Sequence, GenerateEvent])[] = [];
    let row = -1;
    for (const { sequence, count } of shares) {
      row += count;
      const { slot, tokens } = sequence;
      slot.cells.push(...tokens.slice(slot.cells.length, slot.cells.length + count));
      const logits = outputs[row]!;
      if (logits !== null) events.push(...this.#draw(sequence, logits));
    }
    // 3. All events of the step at once.
    this.#events.onStep(events);
  }

  #learnPace(rowMs: number): void {
    this.#rowMs = this.#rowMs === null ? rowMs : this.#rowMs + sampleWeight * (rowMs - this.#rowMs);
  }

  #draw(sequence: Sequence, logits: Int32Array): StepEvents {
    const startMs = performance.now();
    const events = sequence.draw(logits);
    sequence.answer.account(performance.now() - startMs);
    sequence.unreadEvents += 1;
    if (events.at(-1)?.type === "end") this.#sequences.delete(sequence);
    return events.map((event) => [sequence, event] as const);
  }

  #limits(active: readonly Sequence[]): StepLimits {
    const { rowsMax } = this.#executor;
    const rowsWithin = (ms: number): number =>
      Math.max(prefillRowsMin, Math.floor(ms / (this.#rowMs ?? sharedStepMsWanted)));
    const decoding = active.filter(({ pending }) => pending === 1).length;
    return {
      prefillTokensMax: Math.min(rowsMax, rowsWithin(stepMsWanted)),
      sharedPrefillTokensMax: Math.min(rowsMax - decoding, rowsWithin(sharedStepMsWanted)),
    };
  }
}
