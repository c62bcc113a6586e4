/**
 * The store in an SQLite file. Batches of many callers share one flush to the disk: while the thread writes one group,
 * the next one gathers here. Reads see everything that was committed before them.
 */
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import type { FromThread, ToThread, WireError } from "./messages.ts";
import type { Batch, Scan, Store, StoredRecord } from "./port.ts";
import { checkBatch, checkKey, checkScan, storeClosed } from "./port.ts";

/** Batches and their bytes that wait for the disk; more are refused. */
const waitingBatchesMax = 10_000;
const waitingBytesMax: number = 64 * 1024 * 1024;
/** Opening may have to recover a write-ahead log. */
const openTimeoutMs = 30_000;

type Unnumbered<T> = T extends unknown ? Omit<T, "id"> : never;

interface Waiting {
  readonly batch: Batch;
  readonly bytes: number;
  readonly resolve: (held: boolean) => void;
  readonly reject: (error: unknown) => void;
}

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Opens or makes the file (readable by its owner alone). @throws SkeinError `store_failed` */
export function openSqliteStore(path: string, clock: Clock): Promise<Store> {
  const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const file = fileURLToPath(new URL(`./sqlite-thread.${ending}`, import.meta.url));
  const worker = new Worker(file, { workerData: { path }, execArgv: ["--no-warnings"], name: "skein store" });
  return new Promise((resolve, reject) => {
    const fail = (error: SkeinError): void => {
      clearTimeout(timer);
      reject(error);
      void worker.terminate();
    };
    const timer = setTimeout(
      () => fail(ended(`was not open after ${openTimeoutMs / 1000} s`)),
      openTimeoutMs,
    );
    worker.once("error", (error) => fail(ended(`ended: ${String(error)}`)));
    worker.once("message", (message: FromThread) => {
      if (message.type === "error") return fail(fromWire(message.error));
      clearTimeout(timer);
      resolve(new SqliteStore(worker, clock));
    });
  });
}

class SqliteStore implements Store {
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #isWriting = false;
  #nextId = 0;
  #closing: Promise<void> | null = null;
  #failure: SkeinError | null = null;

  constructor(worker: Worker, clock: Clock) {
    this.#worker = worker;
    this.#clock = clock;
    worker.on("message", (message: FromThread) => this.#take(message));
    worker.on("error", (error) => this.#fail(ended(`ended: ${String(error)}`)));
    worker.on("exit", () => this.#fail(storeClosed()));
  }

  async get(key: string): Promise<Uint8Array | null> {
    checkKey(key);
    this.#checkOpen();
    this.#flush();
    return (await this.#ask({ type: "get", key, nowMs: this.#clock.nowMs() })) as Uint8Array | null;
  }

  async scan(scan: Scan): Promise<StoredRecord[]> {
    checkScan(scan);
    this.#checkOpen();
    this.#flush();
    return (await this.#ask({ type: "scan", scan, nowMs: this.#clock.nowMs() })) as StoredRecord[];
  }

  async commit(batch: Batch): Promise<boolean> {
    checkBatch(batch);
    this.#checkOpen();
    const bytes = batch.changes.reduce(
      (sum, change) => sum + (change.type === "put" ? change.value.length : 0),
      0,
    );
    if (this.#waiting.length >= waitingBatchesMax || this.#waitingBytes + bytes > waitingBytesMax) {
      throw new SkeinError("overloaded", "The store's disk does not keep up.", {
        hint: "Try again in a moment.",
      });
    }
    return await new Promise<boolean>((resolve, reject) => {
      this.#waiting.push({ batch, bytes, resolve, reject });
      this.#waitingBytes += bytes;
      if (!this.#isWriting) this.#writeSoon();
    });
  }

  async sweep(limit: number): Promise<number> {
    this.#checkOpen();
    return (await this.#ask({ type: "sweep", limit, nowMs: this.#clock.nowMs() })) as number;
  }

  close(): Promise<void> {
    this.#closing ??= this.#shut();
    return this.#closing;
  }

  async #shut(): Promise<void> {
    if (this.#failure !== null) return;
    this.#flush();
    await this.#ask({ type: "close" }).catch(() => undefined);
    this.#fail(storeClosed());
    await this.#worker.terminate();
  }

  /** Everything that is committed in this turn of the event loop goes together. */
  #writeSoon(): void {
    this.#isWriting = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    const group = this.#waiting;
    if (group.length === 0) return;
    this.#waiting = [];
    this.#isWriting = true;
    const answer = this.#ask({
      type: "commit",
      batches: group.map(({ batch }) => batch),
      nowMs: this.#clock.nowMs(),
    });
    answer.then(
      (held) => group.forEach(({ resolve }, index) => resolve((held as boolean[])[index]!)),
      (error: unknown) => group.forEach(({ reject }) => reject(error)),
    );
    const written = (): void => {
      this.#waitingBytes -= group.reduce((sum, { bytes }) => sum + bytes, 0);
      this.#isWriting = false;
      if (this.#waiting.length > 0) this.#writeSoon();
    };
    void answer.then(written, written);
  }

  #ask(message: Unnumbered<ToThread>): Promise<unknown> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is of windows
      this.#worker.postMessage({ ...message, id });
    });
  }

  #take(message: FromThread): void {
    if (message.type === "opened" || (message.type === "error" && message.id === null)) return;
    const pending = this.#pending.get(message.id!);
    this.#pending.delete(message.id!);
    if (message.type === "answer") pending?.resolve(message.result);
    else pending?.reject(fromWire(message.error));
  }

  #fail(error: SkeinError): void {
    this.#failure ??= error;
    for (const { reject } of this.#pending.values()) reject(this.#failure);
    this.#pending.clear();
    for (const { reject } of this.#waiting) reject(this.#failure);
    this.#waiting = [];
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw storeClosed();
    if (this.#failure !== null) throw this.#failure;
  }
}

function fromWire({ code, message, hint }: WireError): SkeinError {
  return new SkeinError(code, message, hint === undefined ? {} : { hint });
}

function ended(what: string): SkeinError {
  return new SkeinError("store_failed", `The store ${what}.`);
}
