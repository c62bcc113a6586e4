/** Starts the threads that share the work of a model. */
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { WasmExecutor, WasmExecutorOptions } from "../../exact/wasm/executor.ts";
import type { StartThreads } from "../../exact/wasm/team.ts";
import { SkeinError } from "../../util/errors.ts";
import { besideThis } from "./worker-file.ts";

/** @param onFailure called when a thread ended although nobody asked it to: the model cannot run any more */
export function startComputeThreads(onFailure: (reason: string) => void): StartThreads {
  return (members) => {
    let ended = false;
    const workers = members.map((member) => {
      const name = `skein exact ${member.thread}`;
      const worker = new Worker(besideThis("compute-thread"), { workerData: member, execArgv: [], name });
      worker.on("error", (error) => {
        if (!ended) onFailure(error instanceof Error ? error.message : String(error));
      });
      worker.on("exit", (code) => {
        if (!ended) onFailure(`a compute thread ended (exit code ${code})`);
      });
      // The model's own thread keeps the process alive, not these.
      worker.unref();
      return worker;
    });
    return () => {
      ended = true;
      for (const worker of workers) void worker.terminate();
    };
  };
}

/** Options of an executor on `threads` threads, the caller's included. */
export function sharedWork(
  threads: number,
  onFailure: (reason: string) => void,
): Pick<WasmExecutorOptions, "threads"> {
  return threads > 1 ? { threads: { count: threads, start: startComputeThreads(onFailure) } } : {};
}

/** Starting a thread takes some tens of milliseconds, on a busy machine seconds. */
const threadsTimeoutMs = 60_000;

/** @throws SkeinError `engine_unavailable` when they do not come */
export async function threadsReady(executor: WasmExecutor): Promise<void> {
  const startMs = performance.now();
  while (!executor.isReady()) {
    if (performance.now() - startMs > threadsTimeoutMs) {
      executor.close();
      throw new SkeinError("engine_unavailable", "The compute threads of the model did not start.", {
        hint: "Give it fewer with --threads.",
      });
    }
    await sleep(5);
  }
}
