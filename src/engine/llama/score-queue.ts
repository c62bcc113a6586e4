/** Answers that wait to be scored: one at a time, one chunk between two steps of the batch loop. */
import { SkeinError } from "../../util/errors.ts";
import { type FromHost, toWire } from "../hosted/messages.ts";
import type { ScoreRequest } from "../port.ts";
import type { LoadedModel } from "./load.ts";
import { ScoreRun } from "./score.ts";
import type { SlotTable } from "./slots.ts";

interface Waiting {
  readonly id: number;
  readonly score: ScoreRequest;
  readonly promptTokens: number[];
}

export class ScoreQueue {
  readonly #loaded: LoadedModel;
  readonly #slots: SlotTable;
  readonly #host: { send(message: FromHost): void; wake(): void };
  #waiting: Waiting[] = [];
  #run: ScoreRun | null = null;
  /** Of the run, while its chunk is being read. */
  #isCancelled = false;

  constructor(loaded: LoadedModel, slots: SlotTable, host: { send(message: FromHost): void; wake(): void }) {
    this.#loaded = loaded;
    this.#slots = slots;
    this.#host = host;
  }

  add(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#host.wake();
  }

  cancel(id: number): void {
    if (this.#run?.id === id) this.#isCancelled = true;
    const had = this.#waiting.length;
    this.#waiting = this.#waiting.filter((waiting) => waiting.id !== id);
    if (this.#waiting.length < had) this.#fail(id, cancelled());
    // Nothing else may move the loop.
    this.#host.wake();
  }

  /** The cache was emptied: what was read is lost. */
  failRunning(error: unknown): void {
    const run = this.#run;
    if (run === null) return;
    this.#fail(run.id, error);
    this.#end(run);
  }

  /** Called when nothing else touches the cache. Does nothing while no slot is free: whoever frees one wakes the loop. */
  async step(): Promise<void> {
    this.#run ??= this.#next();
    const run = this.#run;
    if (run === null) return;
    try {
      if (this.#isCancelled) throw cancelled();
      const scores = await run.step();
      // A sign of life.
      this.#host.send({ type: "step", events: [] });
      if (scores !== null) {
        this.#host.send({ type: "scored", id: run.id, scores });
        this.#end(run);
      }
    } catch (error) {
      this.#fail(run.id, error);
      this.#end(run);
    }
    this.#host.wake();
  }

  #next(): ScoreRun | null {
    const [waiting] = this.#waiting;
    const slot = waiting === undefined ? null : this.#slots.takeEmpty();
    if (waiting === undefined || slot === null) return null;
    this.#waiting.shift();
    try {
      return new ScoreRun(waiting.id, waiting.score, waiting.promptTokens, slot, this.#loaded);
    } catch (error) {
      slot.busy = false;
      this.#fail(waiting.id, error);
      return null;
    }
  }

  #end(run: ScoreRun): void {
    run.free();
    this.#run = null;
    this.#isCancelled = false;
  }

  #fail(id: number, error: unknown): void {
    this.#host.send({ type: "failed", id, error: toWire(error) });
  }
}

function cancelled(): SkeinError {
  return new SkeinError("cancelled", "The request was cancelled.");
}
