/** One run of the thread that holds the model, from start to its end. */
import { Worker } from "node:worker_threads";
import { SkeinError } from "../../util/errors.ts";
import type { Host, HostEvents } from "../hosted/engine.ts";
import { fromWire } from "../hosted/messages.ts";
import type { ExactLoadOptions, FromThread, LoadedFacts } from "./messages.ts";
import { besideThis } from "./worker-file.ts";

/** Reading and hashing 4 GB from a slow disk takes minutes; longer is a hang. */
const loadTimeoutMs = 15 * 60_000;

export interface ExactThread extends Host {
  readonly facts: LoadedFacts;
}

/** Starts a thread and loads the model. @throws SkeinError when it cannot. */
export function startExactThread(options: ExactLoadOptions, events: HostEvents): Promise<ExactThread> {
  // Flags of this process (of its test runner, too) are not the thread's.
  const worker = new Worker(besideThis("worker"), { workerData: options, execArgv: [], name: "skein exact" });
  let closing = false;
  let reason: string | null = null;
  return new Promise((resolve, reject) => {
    let loaded = false;
    const fail = (error: SkeinError): void => {
      clearTimeout(timer);
      reject(error);
      void worker.terminate();
    };
    const timer = setTimeout(() => fail(tooSlow()), loadTimeoutMs);
    worker.on("message", (message: FromThread) => {
      if (message.type === "loaded") {
        loaded = true;
        clearTimeout(timer);
        resolve(handleOf(message.facts));
      } else if (message.type === "load-failed") {
        fail(fromWire(message.error));
      } else {
        events.onMessage(message);
      }
    });
    worker.on("error", (error) => {
      reason = error instanceof Error ? error.message : String(error);
    });
    worker.on("exit", (code) => {
      const why = `The thread of the exact engine ended (${reason ?? `exit code ${code}`})`;
      if (!loaded) fail(new SkeinError("engine_unavailable", `${why}.`));
      else if (!closing) events.onExit(why);
    });
  });

  function handleOf(facts: LoadedFacts): ExactThread {
    return {
      facts,
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is of windows
      send: (message) => worker.postMessage(message),
      kill: () => void worker.terminate(),
      close: async () => {
        closing = true;
        await worker.terminate();
      },
    };
  }
}

function tooSlow(): SkeinError {
  return new SkeinError(
    "engine_unavailable",
    `The model did not load within ${loadTimeoutMs / 60_000} minutes.`,
  );
}
