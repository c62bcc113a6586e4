/** All batches at work: whose line is asked next, and how many at once. */
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import { eachJson, getJson } from "../kept/records.ts";
import type { Batch } from "./batch.ts";
import { cleanUp } from "./finish.ts";
import { BatchJob, type JobDeps } from "./job.ts";

/** Batches of one API key, and of all, that have not ended; each reads some lines ahead. */
const ownerBatchesMax = 100;
const batchesMax = 1_000;
/** Slots that other gateways free are not announced. */
const pulseMs = 500;

export interface RunnerOptions {
  /** Lines asked at the same time, over all batches. */
  readonly parallelMax: number;
  /** Slots that nobody uses now. */
  readonly freeSlots: (model: string) => number;
}

export class BatchRunner {
  readonly #deps: JobDeps;
  readonly #options: RunnerOptions;
  readonly #jobs = new Map<string, BatchJob>();
  #asking = 0;
  /** Whose turn is first: batches share what is free. */
  #turn = 0;
  #isPumping = false;
  #isClosed = false;
  #cancelPulse = (): void => undefined;

  constructor(deps: Omit<JobDeps, "wake">, options: RunnerOptions) {
    this.#deps = { ...deps, wake: () => this.wake() };
    this.#options = options;
  }

  /** Goes on with what a gateway before left. Never rejects. */
  async resume(): Promise<void> {
    const { store, log } = this.#deps;
    try {
      for await (const { key, value } of eachJson(store, { prefix: "batch-active/" })) {
        const batch = (await getJson(store, value as string)) as Batch | null;
        if (this.#isClosed) return;
        if (batch === null) await store.commit({ changes: [{ type: "delete", key }] });
        else if (!this.#jobs.has(batch.id)) this.#run(batch);
      }
      for (const { key } of await store.scan({ prefix: "batch-cleanup/", limit: batchesMax })) {
        await cleanUp(store, key.slice("batch-cleanup/".length));
      }
    } catch (error) {
      if (!this.#isClosed) log.error({ reason: toSkeinError(error).message }, "batches could not be resumed");
    }
  }

  /** @throws SkeinError `quota_exceeded` */
  requireRoom(owner: string): void {
    const own = [...this.#jobs.values()].filter(({ batch }) => batch.owner === owner).length;
    if (own < ownerBatchesMax && this.#jobs.size < batchesMax) return;
    throw new SkeinError("quota_exceeded", `${own} batches of this API key have not ended yet.`, {
      hint: "Wait for one, or cancel one.",
    });
  }

  /** Batches that have not ended. */
  get batches(): number {
    return this.#jobs.size;
  }

  /** Their lines that are asked now. */
  get asking(): number {
    return this.#asking;
  }

  start(batch: Batch): void {
    this.#run(batch);
  }

  /** One that has not ended. */
  jobOf(id: string): BatchJob | undefined {
    return this.#jobs.get(id);
  }

  /** Something may be free. */
  wake(): void {
    if (this.#isPumping || this.#isClosed || this.#jobs.size === 0) return;
    this.#isPumping = true;
    // Many things happen in one moment.
    queueMicrotask(() => {
      this.#isPumping = false;
      this.#pump();
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelPulse();
    for (const job of this.#jobs.values()) job.close();
  }

  #run(batch: Batch): void {
    const job = new BatchJob(this.#deps, batch);
    this.#jobs.set(batch.id, job);
    void job.run().finally(() => this.#jobs.delete(batch.id));
    this.#pulse();
  }

  #pump(): void {
    const free = new Map<string, number>();
    const freeOf = (model: string): number => {
      const known = free.get(model) ?? this.#options.freeSlots(model);
      free.set(model, known);
      return known;
    };
    let idle = 0;
    while (idle < this.#jobs.size && this.#asking < this.#options.parallelMax && !this.#isClosed) {
      const job = [...this.#jobs.values()][this.#turn++ % this.#jobs.size]!;
      const ready = job.take((model) => freeOf(model) > 0);
      if (ready === null) {
        idle += 1;
        continue;
      }
      idle = 0;
      const { model } = ready.line.request;
      free.set(model, freeOf(model) - 1);
      this.#asking += 1;
      void job.ask(ready).finally(() => {
        this.#asking -= 1;
        this.wake();
      });
    }
  }

  #pulse(): void {
    this.#cancelPulse();
    this.#cancelPulse = this.#deps.clock.schedule(pulseMs, () => {
      if (this.#jobs.size === 0 || this.#isClosed) return;
      this.wake();
      this.#pulse();
    });
  }
}
