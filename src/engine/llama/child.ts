/**
 * The process that runs llama.cpp: loads one model, then turns requests into tokens until the parent
 * goes away. A crash in native code ends only this process; the parent starts another.
 */
import { offeredDialect } from "../chat-dialect.ts";
import { inspectGguf } from "../gguf/inspect.ts";
import { toWire } from "../hosted/messages.ts";
import { loadModel } from "./load.ts";
import type { ToChild, ToParent } from "./messages.ts";
import { Service } from "./service.ts";

let service: Service | null = null;

function send(message: ToParent): void {
  // A parent that is gone ends this process by `disconnect`.
  if (process.connected) process.send?.(message);
}

async function load(message: Extract<ToChild, { type: "load" }>): Promise<void> {
  try {
    const loaded = await loadModel(message.options, await inspectGguf(message.options.modelPath));
    service = new Service(loaded, message.options.parallel, send);
    const { contextTokens, backend, info, infill } = loaded;
    const dialect = offeredDialect(info.chatTemplate);
    send({ type: "loaded", contextTokens, backend, dialect, hasInfill: infill !== null });
  } catch (error) {
    send({ type: "load-failed", error: toWire(error) });
  }
}

process.on("message", (message: ToChild) => {
  switch (message.type) {
    case "load":
      void load(message);
      break;
    case "generate":
      service?.generate(message.id, message.request);
      break;
    case "read":
      service?.read(message.id, message.events);
      break;
    case "cancel":
      service?.cancel(message.id);
      break;
    case "score":
      service?.score(message.id, message.score);
      break;
    case "embed":
      service?.embed(message.id, message.request);
      break;
    case "count":
      service?.count(message.id, message.prompt);
      break;
  }
});
// The parent ends this process; a Ctrl-C in the terminal reaches both and must not cut answers short.
process.on("SIGINT", () => undefined);
// Not `process.exit`: that waits for native threads, which may be busy for long or hang.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
