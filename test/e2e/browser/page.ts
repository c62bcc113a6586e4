/** The page's side: does a task on the main thread, or has a worker do it. */
import { does, type Tasks } from "./tasks.ts";

export type Place = "main thread" | "worker";

export interface WorkerTask {
  readonly name: keyof Tasks;
  readonly asks: Tasks[keyof Tasks]["asks"];
}

export type WorkerReply = { readonly gives: unknown } | { readonly error: string };

export async function perform<Name extends keyof Tasks>(
  place: Place,
  name: Name,
  asks: Tasks[Name]["asks"],
): Promise<Tasks[Name]["gives"]> {
  return place === "worker" ? inWorker({ name, asks }) : does[name](asks);
}

function inWorker<T>(task: WorkerTask): Promise<T> {
  const worker = new Worker(new URL("worker.ts", import.meta.url), { type: "module" });
  return new Promise<T>((resolve, reject) => {
    worker.addEventListener("message", ({ data }: MessageEvent<WorkerReply>) => {
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.gives as T);
    });
    worker.addEventListener("error", ({ message }) =>
      reject(new Error(message || "The worker did not start.")),
    );
    worker.postMessage(task, []);
  }).finally(() => worker.terminate());
}
