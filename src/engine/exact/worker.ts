/**
 * The thread that runs the model: loads it, then turns requests into tokens until it is ended. What it throws ends only
 * this thread; the engine starts another.
 */
import { parentPort, workerData } from "node:worker_threads";
import { SkeinError } from "../../util/errors.ts";
import { type ToHost, toWire } from "../hosted/messages.ts";
import { loadModel } from "./load.ts";
import type { ExactLoadOptions, FromThread } from "./messages.ts";
import { Service } from "./service.ts";

const port = parentPort!;

function send(message: FromThread): void {
  port.postMessage(message);
}

async function load(options: ExactLoadOptions): Promise<void> {
  const loaded = await loadModel(options, (reason) => {
    // Ends this thread; the engine starts it, and its compute threads, again.
    throw new Error(reason);
  });
  const service = new Service(loaded, send);
  port.on("message", (message: ToHost) => service.receive(message));
  send({ type: "loaded", facts: loaded.facts });
}

load(workerData as ExactLoadOptions).catch((error: unknown) => {
  const isFull = error instanceof SkeinError && error.code === "overloaded";
  const { message, hint } = toWire(error);
  send({
    type: "load-failed",
    error: isFull ? { code: "engine_unavailable", message, hint } : toWire(error),
  });
});
