/** Threads that help to load a model: half of the time goes into its hashes. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { LoadHelpers } from "../../exact/wasm/load.ts";
import type { PourPlan } from "../../exact/wasm/pieces.ts";
import { SkeinError } from "../../util/errors.ts";
import type { FileSource } from "../file-source.ts";
import { besideThis } from "./worker-file.ts";

/** What a thread is told. */
export interface LoadShare {
  readonly plan: PourPlan;
  /** Its number, from 1 on. */
  readonly thread: number;
  /** The open file. */
  readonly descriptor: number;
}

/** More wait for memory rather than for one another. */
const helpersMax = 3;
/** Smaller files are loaded before a thread has started. */
const helpedBytesMin: number = 24 * 2 ** 20;

/** Processors that have nothing else to do, as far as one can know. */
export function idleProcessors(): number {
  return availableParallelism() - 1;
}

/**
 * Does something with as many helpers as are useful for a file, none for a small one; they have ended when it is done.
 * @param idle helpers at most
 */
export async function withLoadThreads<T>(
  { descriptor, size }: Pick<FileSource, "descriptor" | "size">,
  idle: number,
  act: (helpers: LoadHelpers | undefined) => Promise<T>,
): Promise<T> {
  const count = size < helpedBytesMin ? 0 : Math.min(helpersMax, idle);
  if (count === 0) return act(undefined);
  const workers = Array.from({ length: count }, (_, i) => {
    return new Worker(besideThis("load-thread"), { execArgv: [], name: `skein load ${i + 1}` });
  });
  const help = async (plan: PourPlan): Promise<void> => {
    await Promise.all(workers.map((worker, i) => helpOf(worker, { plan, thread: i + 1, descriptor })));
  };
  try {
    return await act({ count, help });
  } finally {
    // Before the file is closed: its descriptor may be another one's soon.
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

/** @throws SkeinError `engine_unavailable` when it ends before it is done */
async function helpOf(worker: Worker, share: LoadShare): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = (why: string): void =>
      reject(new SkeinError("engine_unavailable", `The model could not be loaded: ${why}.`));
    worker.once("message", () => resolve());
    worker.once("error", (error) => fail(error instanceof Error ? error.message : String(error)));
    worker.once("exit", (code) => fail(`a thread that helps ended (exit code ${code})`));
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is of windows
    worker.postMessage(share);
  });
}
