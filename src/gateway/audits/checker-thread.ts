/** Checks in a thread of its own, which is there only while there is something to check. */
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { abortError } from "../../util/abort.ts";
import type { Clock } from "../../util/clock.ts";
import { modelNotHere, positionsOf } from "../../audit/loaded-checker.ts";
import type { FromChecker, ToChecker } from "./checker-messages.ts";
import { ModelFiles, type ModelPlaces } from "./model-files.ts";
import type { AnswerChecker, CheckedPart, CheckQuestion } from "../../audit/answer-checker.ts";

/** Loading and a long prompt on a slow machine; longer is a hang. */
const checkTimeoutMs = 10 * 60_000;
/** Then the thread ends and gives its memory back. */
const idleMs = 60_000;
/** The folder is looked into for files that came since, this often at most. */
const lookIntervalMs = 1_000;

export async function createCheckerThread(clock: Clock, places: ModelPlaces): Promise<AnswerChecker> {
  const models = new ModelFiles(places);
  await models.look();
  return new CheckerThread(clock, models);
}

class CheckerThread implements AnswerChecker {
  readonly #clock: Clock;
  readonly #models: ModelFiles;
  #worker: Worker | null = null;
  #cancelIdle = (): void => undefined;
  #lookedMs: number;
  #nextId = 0;
  /** One after the other: they share the model. */
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(clock: Clock, models: ModelFiles) {
    this.#clock = clock;
    this.#models = models;
    this.#lookedMs = clock.monotonicMs();
  }

  has(modelId: string): boolean {
    if (this.#models.pathOf(modelId) !== null) return true;
    void this.#look();
    return false;
  }

  check(question: CheckQuestion, signal: AbortSignal): Promise<CheckedPart> {
    const checked = this.#last.then(() => this.#check(question, signal));
    this.#last = checked.catch(() => undefined);
    return checked;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#end();
  }

  async #look(): Promise<void> {
    if (this.#clock.monotonicMs() - this.#lookedMs < lookIntervalMs) return;
    this.#lookedMs = this.#clock.monotonicMs();
    await this.#models.look();
  }

  async #check(question: CheckQuestion, signal: AbortSignal): Promise<CheckedPart> {
    const { modelId } = question.choice.parts[question.part]!.asked;
    if (this.#models.pathOf(modelId) === null) await this.#look();
    const modelPath = this.#models.pathOf(modelId);
    if (modelPath === null || this.#isClosed) return modelNotHere(modelId);
    this.#cancelIdle();
    this.#worker ??= startWorker();
    try {
      return await this.#ask(this.#worker, { id: this.#nextId++, modelPath, modelId, question }, signal);
    } finally {
      this.#cancelIdle = this.#clock.schedule(idleMs, () => void this.#end());
    }
  }

  #ask(worker: Worker, message: ToChecker, signal: AbortSignal): Promise<CheckedPart> {
    return new Promise((resolve, reject) => {
      const done = (end: () => void): void => {
        cancel();
        worker.off("message", onMessage).off("exit", onExit);
        signal.removeEventListener("abort", onAbort);
        end();
      };
      const onMessage = ({ id, checked }: FromChecker): void => {
        if (id === message.id) done(() => resolve(checked));
      };
      const onExit = (): void => {
        if (this.#worker === worker) this.#worker = null;
        const positions = positionsOf(message.question);
        const detail = `The thread ended while it computed ${positions} positions again.`;
        done(() => resolve({ kind: "unable", why: "busy", detail }));
      };
      const onAbort = (): void => {
        void this.#end();
        done(() => reject(abortError(signal)));
      };
      const cancel = this.#clock.schedule(checkTimeoutMs, () => {
        void this.#end();
        done(() => resolve({ kind: "unable", why: "timeout", detail: "It took too long." }));
      });
      if (signal.aborted) return onAbort();
      worker.on("message", onMessage).on("exit", onExit);
      signal.addEventListener("abort", onAbort, { once: true });
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is of windows
      worker.postMessage(message);
    });
  }

  async #end(): Promise<void> {
    this.#cancelIdle();
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }
}

function startWorker(): Worker {
  const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const path = fileURLToPath(new URL(`./checker-worker.${ending}`, import.meta.url));
  // Flags of this process (of its test runner, too) are not the thread's.
  const worker = new Worker(path, { execArgv: [], name: "skein audit" });
  // Its exit says the rest.
  worker.on("error", () => undefined);
  worker.unref();
  return worker;
}
