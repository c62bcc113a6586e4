/** Server-sent events with back-pressure: what becomes ready in one turn of the event loop is one write. */
import { SkeinError } from "../util/errors.ts";
import { clientStallMs } from "./options.ts";

/** Unread bytes of one client before its providers are paused. */
const unreadBytesMax = 64 * 1024;

export function sseData(value: unknown): string {
  return `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;
}

/**
 * A body that sends the strings of `events`. The iteration is closed when the client goes away, and
 * aborted through `abort` when it reads nothing for too long.
 */
export function sseBody(events: AsyncIterator<string>, abort: AbortController): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let wake: (() => void) | null = null;
  let pending = "";
  let cancelled = false;

  async function pump(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    const flush = (): void => {
      if (pending === "" || cancelled) return;
      controller.enqueue(encoder.encode(pending));
      pending = "";
    };
    for (;;) {
      const { value, done } = await events.next();
      if (cancelled) return;
      if (done === true) break;
      if (pending === "") setImmediate(flush);
      pending += value;
      if ((controller.desiredSize ?? 0) - pending.length > 0) continue;
      flush();
      await room();
      if (cancelled) return;
    }
    flush();
    controller.close();
  }

  function room(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(
        () => abort.abort(new SkeinError("cancelled", `The client read nothing for ${clientStallMs} ms.`)),
        clientStallMs,
      );
      wake = () => {
        clearTimeout(timer);
        wake = null;
        resolve();
      };
      abort.signal.addEventListener("abort", () => wake?.(), { once: true });
    });
  }

  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        // Not awaited: `start` must return before the stream can be read.
        pump(controller).catch((error: unknown) => controller.error(error));
      },
      pull: () => wake?.(),
      async cancel() {
        cancelled = true;
        abort.abort(new SkeinError("cancelled", "The client went away."));
        wake?.();
        await events.return?.();
      },
    },
    { highWaterMark: unreadBytesMax, size: (chunk) => chunk.byteLength },
  );
}
