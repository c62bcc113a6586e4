/** Starts the threads that share the work of a model. */
import { Worker } from "node:worker_threads";
import type { StartThreads } from "../../exact/wasm/team.ts";
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
