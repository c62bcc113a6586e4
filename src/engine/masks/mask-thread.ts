/** One thread that computes masks, from its start to its end. */
import { Worker } from "node:worker_threads";
import { fileURLToPath } from "node:url";
import { SkeinError } from "../../util/errors.ts";
import type { FromMaskThread, ToMaskThread, Vocabulary } from "./messages.ts";

export class MaskThread {
  readonly #worker: Worker;
  readonly #compileTimeoutMs: number;
  readonly #onEnd: () => void;
  readonly #pending = new Map<number, PromiseWithResolvers<void>>();
  /** Why it ended; null while it lives. */
  #failure: SkeinError | null = null;

  /** @param onEnd called once, however it ends */
  constructor(vocabulary: Vocabulary, compileTimeoutMs: number, onEnd: () => void) {
    this.#compileTimeoutMs = compileTimeoutMs;
    this.#onEnd = onEnd;
    const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const file = fileURLToPath(new URL(`./mask-worker.${ending}`, import.meta.url));
    this.#worker = new Worker(file, { workerData: vocabulary, execArgv: [], name: "skein masks" });
    // The engine keeps the process alive, not these.
    this.#worker.unref();
    this.#worker.on("message", (message: FromMaskThread) => this.#receive(message));
    this.#worker.on("error", (error) => this.end(ended(String(error))));
    this.#worker.on("exit", () => this.end(ended("it exited")));
  }

  get failure(): SkeinError | null {
    return this.#failure;
  }

  /** Sends a message and waits for its answer. @throws SkeinError when the grammar is refused, or too slow */
  async ask(message: Extract<ToMaskThread, { type: "compile" | "open" }>): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const answer = Promise.withResolvers<void>();
    this.#pending.set(message.id, answer);
    const seconds = this.#compileTimeoutMs / 1000;
    const timer = setTimeout(() => {
      answer.reject(tooSlow(`takes longer than ${seconds} s to compile`));
      this.end(ended("a grammar took too long"));
    }, this.#compileTimeoutMs);
    this.send(message);
    try {
      await answer.promise;
    } finally {
      clearTimeout(timer);
      this.#pending.delete(message.id);
    }
  }

  send(message: ToMaskThread): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is of windows
    this.#worker.postMessage(message);
  }

  /** Ends it in the middle of whatever it does. Idempotent. */
  end(failure: SkeinError): void {
    if (this.#failure !== null) return;
    this.#failure = failure;
    for (const { reject } of this.#pending.values()) reject(failure);
    void this.#worker.terminate();
    this.#onEnd();
  }

  #receive(message: FromMaskThread): void {
    const answer = this.#pending.get(message.id);
    if (message.type !== "refused") return answer?.resolve();
    answer?.reject(
      new SkeinError(
        "invalid_request",
        `The grammar cannot be used: ${message.reason.replace(/^.*?error /, "").slice(0, 500)}.`,
        {
          param: "response_format",
        },
      ),
    );
    // What its library has broken off leaves its memory in doubt.
    this.end(ended("a grammar was refused"));
  }
}

export function tooSlow(what: string): SkeinError {
  return new SkeinError("invalid_request", `The grammar ${what}.`, {
    param: "response_format",
    hint: "Ask for something simpler.",
  });
}

function ended(reason: string): SkeinError {
  return new SkeinError("engine_failed", `The thread that watches over the answer's form ended: ${reason}.`);
}
