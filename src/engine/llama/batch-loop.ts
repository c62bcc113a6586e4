/**
 * Continuous batching over llama.cpp's inner context. Every step evaluates one token of each decoding
 * sequence and fair chunks of the prompts that are still being read, then draws the next tokens.
 */
import type { GenerateEvent } from "../../protocol/generate.ts";
import { planStep, type Share } from "../step-plan.ts";
import { ArrangementChooser, stepLimits } from "./batch-plan.ts";
import type { RevealingContext } from "./binding.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Drawn, Sequence } from "./sequence.ts";
import type { SlotTable } from "./slots.ts";

export type StepEvents = readonly (readonly [Sequence, GenerateEvent])[];

export interface BatchLoopEvents {
  /** Between two steps, when nothing touches the cache: take in new requests. */
  onPause(): Promise<void>;
  /** All events of one step together; none is a sign of life. */
  onStep(events: StepEvents): void;
  /** A step failed: these sequences are lost, and the cache is in doubt. */
  onFailure(error: unknown, sequences: readonly Sequence[]): void;
  /** This one cannot go on. */
  onLost(error: SkeinError, sequence: Sequence): void;
}

const noLogits = new Uint32Array(0);

export class BatchLoop {
  readonly #context: RevealingContext;
  readonly #slots: SlotTable;
  readonly #events: BatchLoopEvents;
  readonly #sequences = new Set<Sequence>();
  readonly #chooser = new ArrangementChooser();
  /** Events of the last step: they are sent while the next one computes. */
  #outbox: StepEvents | null = null;
  #steps = 0;
  #running = false;
  #woken = false;

  constructor(context: RevealingContext, slots: SlotTable, events: BatchLoopEvents) {
    this.#context = context;
    this.#slots = slots;
    this.#events = events;
  }

  get sequences(): ReadonlySet<Sequence> {
    return this.#sequences;
  }

  add(sequence: Sequence): void {
    this.#sequences.add(sequence);
  }

  /** Takes effect at the next step. */
  remove(sequence: Sequence): void {
    this.#sequences.delete(sequence);
  }

  /** Something changed: a request waits, or a paused sequence was read. */
  wake(): void {
    this.#woken = true;
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    for (;;) {
      this.#woken = false;
      await this.#events.onPause();
      const active = [...this.#sequences].filter((sequence) => !sequence.paused);
      if (active.length === 0) {
        this.#flush();
        if (this.#woken) continue;
        break;
      }
      try {
        await this.#step(active);
      } catch (error) {
        this.#flush();
        for (const sequence of active) this.#sequences.delete(sequence);
        this.#events.onFailure(error, active);
      }
    }
    this.#running = false;
  }

  async #step(active: readonly Sequence[]): Promise<void> {
    const startMs = performance.now();
    // 1. One batch with everybody's share; the last step's events leave while it computes.
    const shares = planStep(active, stepLimits);
    this.#steps += 1;
    for (const { sequence } of shares) sequence.servedAt = this.#steps;
    const indexes = await this.#evaluate(shares);
    // 2. One draw for everybody whose logits are there.
    const drawing = shares.flatMap(({ sequence }, i) => {
      const index = indexes[i];
      return index === undefined || !this.#sequences.has(sequence) ? [] : [{ sequence, index }];
    });
    const drawn = await Promise.all(
      drawing.map(({ sequence, index }) => sequence.draw(this.#context, index).catch(lostConstraint)),
    );
    // 3. All events of the step at once.
    const stepMs = performance.now() - startMs;
    for (const { sequence } of shares) sequence.answer.account(stepMs);
    const events = drawing.flatMap(({ sequence }, i) => this.#accept(sequence, drawn[i]!));
    this.#outbox = events;
    // An end frees its slot for the next step, so it does not wait.
    if (events.some(([, event]) => event.type === "end")) this.#flush();
  }

  /** Evaluates all shares; returns the positions of the logits asked for. */
  async #evaluate(shares: readonly Share<Sequence>[]): Promise<(number | undefined)[]> {
    const decoding = shares.every(({ count }) => count === 1);
    const arrangement = decoding ? this.#chooser.choose(shares.length) : "together";
    const gaps = decoding && arrangement === "together" ? this.#slots.gaps(shares.map(slotId)) : [];
    // llama.cpp evaluates runs of consecutive slots in one pass, everything else apart.
    const order = [...shares.map((share) => ({ share, id: slotId(share) })), ...gaps.map(dummyOf)];
    order.sort((a, b) => (arrangement === "together" ? a.id - b.id : b.id - a.id));
    const startMs = performance.now();
    this.#context.initBatch(shares.reduce((sum, { count }) => sum + count, gaps.length));
    const indexes = new Map<Share<Sequence>, number | undefined>();
    for (const { share, id } of order) {
      if (share === null) this.#slots.addDummy(id);
      else indexes.set(share, this.#add(share));
    }
    const evaluated = this.#context.decodeBatch();
    this.#flush();
    await evaluated;
    if (decoding) this.#chooser.learn(shares.length, arrangement, performance.now() - startMs);
    for (const id of gaps) this.#slots.removeDummy(id);
    for (const { sequence, count } of shares) {
      const { cells } = sequence.slot;
      cells.push(...sequence.tokens.slice(cells.length, cells.length + count));
    }
    return shares.map((share) => indexes.get(share));
  }

  #add({ sequence, count }: Share<Sequence>): number | undefined {
    const { slot, tokens, pending } = sequence;
    const start = slot.cells.length;
    const chunk = Uint32Array.from(tokens.slice(start, start + count));
    const wanted = count === pending ? Uint32Array.of(count - 1) : noLogits;
    return this.#context.addToBatch(slot.id, start, chunk, wanted)[0];
  }

  #accept(sequence: Sequence, drawn: Drawn | SkeinError): StepEvents {
    if (!this.#sequences.has(sequence)) return [];
    let events: GenerateEvent[];
    try {
      if (drawn instanceof SkeinError) throw drawn;
      events = sequence.accept(drawn);
    } catch (error) {
      this.#sequences.delete(sequence);
      this.#events.onLost(lostConstraint(error), sequence);
      return [];
    }
    sequence.unreadEvents += 1;
    if (events.at(-1)?.type === "end") this.#sequences.delete(sequence);
    return events.map((event) => [sequence, event] as const);
  }

  #flush(): void {
    const events = this.#outbox;
    this.#outbox = null;
    if (events !== null) this.#events.onStep(events);
  }
}

/** One answer's alone: nothing else of the step is in doubt. @throws whatever else went wrong */
function lostConstraint(error: unknown): SkeinError {
  if (error instanceof SkeinError) return error;
  throw error;
}

function slotId({ sequence }: Share<Sequence>): number {
  return sequence.slot.id;
}

function dummyOf(id: number): { share: null; id: number } {
  return { share: null, id };
}
