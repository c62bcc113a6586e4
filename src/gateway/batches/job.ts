/** One batch at work: checked, asked line by line, written into its files. It may begin anywhere in between. */
import type { Batch as Changes } from "../../store/port.ts";
import { toHex, utf8 } from "../../util/bytes.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import { valueBytesMax } from "../../store/port.ts";
import type { Asker } from "../http/app.ts";
import type { FileDeps, Files } from "../files/file-store.ts";
import {
  activeKey,
  type Batch,
  type BatchError,
  type BatchStatus,
  type Consumed,
  finalStatuses,
  inStatus,
  lineKey,
  putBatch,
  withConsumed,
} from "./batch.ts";
import { checkInput } from "./check-input.ts";
import { finishBatch } from "./finish.ts";
import type { BatchLine } from "./lines.ts";
import { LineProgress } from "./progress.ts";
import { type ReadyLine, ReadyLines, type Twin } from "./ready-lines.ts";
import { answered, copied, eachResult, getResult, type LineResult, putResult, refused } from "./results.ts";

/** Tries of a line whose failure is nobody's fault but a provider's; each is tried elsewhere by itself before. */
const failuresMax = 6;
const backoffMinMs = 1_000;
const backoffMaxMs = 60_000;
/** A record of an answer must fit. */
const resultBytesMax: number = valueBytesMax - 4096;

/** Together some minutes, in which a full disk may be mended. */
const commitTriesMax = 30;
const commitPauseMs = 500;

/** How an ended batch stands. */
export type Ending = "completed" | "expired" | "cancelled";

export interface JobDeps extends FileDeps {
  readonly files: Files;
  /** A whole answer; throws SkeinError. */
  readonly answer: (
    line: Pick<BatchLine, "request">,
    asker: Asker,
    signal: AbortSignal,
  ) => Promise<{ body: object; consumed: Consumed }>;
  /** Whether anybody offers a model, or did since the gateway began. May wait a while for providers. @throws SkeinError */
  readonly requireModel: (owner: string, model: string, signal: AbortSignal) => Promise<void>;
  /** When an ended batch is forgotten, after its end. */
  readonly retentionMs: number;
  /** Something may be taken that could not before. */
  readonly wake: () => void;
}

export class BatchJob {
  readonly #deps: JobDeps;
  readonly #progress = new LineProgress();
  /** Ends what runs: for the batch's end, or the gateway's. */
  readonly #abort = new AbortController();
  #batch: Batch;
  #ready: ReadyLines | null = null;
  #ending: Ending | null = null;
  #isClosed = false;
  #asking = 0;
  #onStep = (): void => undefined;

  constructor(deps: JobDeps, batch: Batch) {
    this.#deps = deps;
    this.#batch = batch;
  }

  get id(): string {
    return this.#batch.id;
  }

  /** As it stands now. */
  get batch(): Batch {
    const { counts, consumed, doneCount } = this.#progress;
    return doneCount === 0 || finalStatuses.has(this.#batch.status)
      ? this.#batch
      : withConsumed({ ...this.#batch, counts }, consumed);
  }

  /** Works until the batch has ended or the gateway stops. Never rejects. */
  async run(): Promise<void> {
    const { clock, log } = this.#deps;
    const cancelExpiry = clock.schedule(Math.max(0, this.#batch.expiresMs - clock.nowMs()), () =>
      this.#end("expired"),
    );
    try {
      // 1. What was done before.
      this.#progress.total = this.#batch.counts.total;
      for await (const { number, result } of eachResult(this.#deps.store, this.id))
        this.#progress.add(number, result);
      if (this.#batch.status === "cancelling") this.#end("cancelled");
      // 2. Is the input right?
      if (this.#batch.status === "validating") await this.#check();
      // 3. All lines, as slots are free.
      if (this.#batch.status === "in_progress" && this.#ending === null) await this.#askAll();
      // 4. The files.
      if (this.#isClosed || this.#batch.status === "failed") return;
      this.#batch = await finishBatch(
        this.#deps,
        this.batch,
        this.#ending ?? "completed",
        this.#progress,
        (batch) => this.#save(batch),
      );
    } catch (error) {
      if (this.#isClosed) return;
      const failure = toSkeinError(error);
      log.error({ batch: this.id, code: failure.code }, "a batch has failed");
      if (failure.code !== "store_failed" && failure.code !== "internal_error")
        await this.#fail([errorOf(failure)]);
    } finally {
      cancelExpiry();
      await this.#ready?.close();
    }
  }

  /** A line that may be asked now; null: there is none. */
  take(hasRoom: (model: string) => boolean): ReadyLine | null {
    if (this.#ready === null || this.#abort.signal.aborted) return null;
    this.#ready
      .fill((twin, first) => this.#copy(twin, first))
      ?.then(
        () => {
          this.#onStep();
          this.#deps.wake();
        },
        (error: unknown) => this.#stop(error),
      );
    return this.#ready.take(this.#deps.clock.monotonicMs(), hasRoom);
  }

  /** Asks one line; keeps its result, or puts it back for later. Never rejects. */
  async ask(ready: ReadyLine): Promise<void> {
    this.#asking += 1;
    try {
      const result = await this.#answerOf(ready);
      if (result !== null) await this.#keep(ready.line.number, result);
    } catch (error) {
      this.#stop(error);
    } finally {
      this.#asking -= 1;
      this.#onStep();
    }
  }

  /** @throws SkeinError `conflict` when it has ended */
  async cancel(): Promise<Batch> {
    if (this.#batch.status === "finalizing" || finalStatuses.has(this.#batch.status)) {
      throw new SkeinError("conflict", `The batch is ${this.#batch.status} already.`);
    }
    await this.#save(inStatus(this.batch, "cancelling", this.#deps.clock.nowMs()));
    this.#end("cancelled");
    return this.#batch;
  }

  /** The gateway stops: the batch goes on when it starts again. */
  close(): void {
    this.#isClosed = true;
    this.#abort.abort(new SkeinError("cancelled", "The gateway stops."));
    this.#onStep();
  }

  async #check(): Promise<void> {
    const { random, clock } = this.#deps;
    const { owner, endpoint } = this.#batch;
    const { signal } = this.#abort;
    const checked = await checkInput(await this.#input(), endpoint, random, {
      refuse: async (number, result) => {
        if (signal.aborted) throw signal.reason;
        await this.#keep(number, result);
      },
      requireModel: (model) => this.#deps.requireModel(owner, model, signal),
    }).catch((error: unknown) => {
      if (signal.aborted) return null;
      throw error;
    });
    if (checked === null) return;
    const { total, invalid, errors, model } = checked;
    this.#progress.total = total;
    const batch = { ...this.#batch, model, counts: this.#progress.counts };
    if (invalid === total) return this.#fail(errors, batch);
    await this.#save(inStatus(batch, "in_progress", clock.nowMs()));
  }

  async #askAll(): Promise<void> {
    const { random } = this.#deps;
    const input = await this.#input();
    this.#ready = new ReadyLines(input, this.#batch.endpoint, { random, progress: this.#progress });
    this.#deps.wake();
    const isDone = (): boolean =>
      this.#asking === 0 && (this.#abort.signal.aborted || this.#progress.doneCount >= this.#progress.total);
    while (!isDone()) await new Promise<void>((resolve) => (this.#onStep = resolve));
    const { reason } = this.#abort.signal;
    // What went wrong here, not in a line: the batch's end and the gateway's are told apart by their fields.
    if (this.#abort.signal.aborted && this.#ending === null && !this.#isClosed) throw reason;
  }

  async #input(): Promise<AsyncGenerator<Uint8Array, void>> {
    const { files } = this.#deps;
    return files.read(await files.get(this.#batch.owner, this.#batch.inputFileId, "input_file_id"));
  }

  /** Null: not now. */
  async #answerOf(ready: ReadyLine): Promise<LineResult | null> {
    const { line, failures } = ready;
    const requestId = toHex(this.#deps.random.bytes(12));
    try {
      const asker = { requestId, owner: this.#batch.owner };
      const { body, consumed } = await this.#deps.answer(line, asker, this.#abort.signal);
      const result = answered(line.customId, requestId, body, consumed);
      if (utf8(JSON.stringify(result)).length <= resultBytesMax) return result;
      const tooLarge = new SkeinError(
        "request_too_large",
        `The answer is larger than ${resultBytesMax} bytes.`,
        {
          hint: "Ask for fewer choices.",
        },
      );
      return refused(line.customId, requestId, tooLarge);
    } catch (error) {
      if (this.#abort.signal.aborted) return null;
      const failure = toSkeinError(error);
      const isTransient = failure.retry !== "never" && (failure.status >= 500 || failure.status === 429);
      // Nobody was there, or nobody had room: that is no failure, only not yet.
      const counts = failure.code !== "no_provider" && failure.code !== "overloaded";
      const next = failures + Number(counts);
      if (!isTransient || next >= failuresMax) return refused(line.customId, requestId, failure);
      this.#later({ ...ready, failures: next });
      return null;
    }
  }

  #later(ready: ReadyLine): void {
    const { clock, random, wake } = this.#deps;
    const pauseMs = Math.min(backoffMaxMs, backoffMinMs * 2 ** ready.failures) * (0.5 + random.next() / 2);
    this.#ready!.putBack({ ...ready, notBeforeMs: clock.monotonicMs() + pauseMs });
    clock.schedule(pauseMs + 1, wake);
  }

  async #keep(number: number, result: LineResult): Promise<void> {
    const { store, clock } = this.#deps;
    const isFirst = await commitPatiently(
      { store, clock },
      {
        changes: [putResult(this.id, number, result)],
        conditions: [{ key: lineKey(this.id, number), value: null }],
      },
      this.#abort.signal,
    );
    this.#progress.add(number, isFirst ? result : (await getResult(store, this.id, number))!);
    for (const twin of this.#ready?.twinsOf(number) ?? []) await this.#copy(twin, number);
  }

  /** Answers a line with what another one got that asked the same. */
  async #copy({ number, customId }: Twin, first: number): Promise<void> {
    const result = await getResult(this.#deps.store, this.id, first);
    if (result !== null)
      await this.#keep(number, copied(result, customId, toHex(this.#deps.random.bytes(12))));
  }

  #end(ending: Ending): void {
    this.#ending ??= ending;
    this.#abort.abort(new SkeinError("cancelled", `The batch is ${ending}.`));
    this.#onStep();
  }

  /** Something is wrong that is no line's fault. */
  #stop(error: unknown): void {
    this.#abort.abort(error);
    this.#onStep();
  }

  async #save(batch: Batch): Promise<void> {
    await this.#deps.store.commit({ changes: [putBatch(batch, null)] });
    this.#batch = batch;
  }

  async #fail(errors: readonly BatchError[], batch: Batch = this.batch): Promise<void> {
    const { store, clock, retentionMs } = this.#deps;
    const failed = inStatus({ ...batch, errors }, "failed" satisfies BatchStatus, clock.nowMs());
    await store.commit({
      changes: [
        putBatch(failed, clock.nowMs() + retentionMs),
        { type: "delete", key: activeKey(this.id) },
        { type: "deletePrefix", prefix: `batch-line/${this.id}/` },
      ],
    });
    this.#batch = failed;
  }
}

function errorOf({ code, text, param }: SkeinError): BatchError {
  return { code, message: text, param: param ?? null, line: null };
}

/** A store that is busy for a moment must not cost an answer. @throws SkeinError */
async function commitPatiently(
  { store, clock }: Pick<JobDeps, "store" | "clock">,
  changes: Changes,
  signal: AbortSignal,
): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    try {
      return await store.commit(changes);
    } catch (error) {
      if (tries === commitTriesMax || signal.aborted) throw error;
      await new Promise<void>((resolve) => clock.schedule(commitPauseMs * tries, resolve));
    }
  }
}
