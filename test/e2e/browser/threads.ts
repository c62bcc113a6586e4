/** Workers that compute beside the one that leads. */
import type { StartThreads } from "../../../src/exact/wasm/team.ts";

export interface Threads {
  readonly count: number;
  readonly start: StartThreads;
  end(): void;
}

/** They run before there is work: who leads waits without an event loop, in which no worker would start. */
export async function startThreads(count: number): Promise<Threads> {
  const workers = await Promise.all(Array.from({ length: count - 1 }, startThread));
  const end = (): void => {
    for (const worker of workers) worker.terminate();
  };
  return {
    count,
    start: (members) => {
      for (const [i, member] of members.entries()) workers[i]!.postMessage(member, []);
      return end;
    },
    end,
  };
}

function startThread(): Promise<Worker> {
  const worker = new Worker(new URL("compute-thread.ts", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    worker.addEventListener("message", () => resolve(worker), { once: true });
    worker.addEventListener("error", ({ message }) =>
      reject(new Error(message || "A thread did not start.")),
    );
  });
}
