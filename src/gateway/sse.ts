/** Server-sent events with back-pressure: what becomes ready in one turn of the event loop is one write. */
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { clientStallMs } from "./options.ts";

/** Unread bytes of one client before its providers are paused. */
const unreadBytesMax = 64 * 1024;

export const sseHeaders: Readonly<Record<string, string>> = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
};

const encoder = new TextEncoder();

export function sseData(value: unknown): string {
  return sseText(typeof value === "string" ? value : JSON.stringify(value));
}

/** `text` has no line break (JSON has none). */
export function sseText(text: string): string {
  return `data: ${text}\n\n`;
}

/**
 * A body that sends the strings of `events`. The iteration is closed when the client goes away, and
 * aborted through `abort`, the body cut, when it reads nothing for too long.
 */
export function sseBody(
  clock: Clock,
  events: AsyncIterator<string>,
  abort: AbortController,
): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(new SseSource(clock, events, abort), {
    highWaterMark: unreadBytesMax,
    size: (chunk) => chunk.byteLength,
  });
}

type Controller = ReadableStreamDefaultController<Uint8Array>;

class SseSource implements UnderlyingDefaultSource<Uint8Array> {
  readonly #clock: Clock;
  readonly #events: AsyncIterator<string>;
  readonly #abort: AbortController;
  #pending = "";
  #ended = false;
  /** Set while the client has unread bytes enough. */
  #wake: (() => void) | null = null;

  constructor(clock: Clock, events: AsyncIterator<string>, abort: AbortController) {
    this.#clock = clock;
    this.#events = events;
    this.#abort = abort;
  }

  start(controller: Controller): void {
    // Not awaited: `start` must return before the stream can be read.
    this.#pump(controller).catch((error: unknown) => this.#cut(controller, error));
  }

  pull(): void {
    this.#wake?.();
  }

  async cancel(): Promise<void> {
    this.#ended = true;
    this.#abort.abort(new SkeinError("cancelled", "The client went away."));
    this.#wake?.();
    await this.#events.return?.();
  }

  async #pump(controller: Controller): Promise<void> {
    for (;;) {
      const { value, done } = await this.#events.next();
      if (this.#ended) return;
      if (done === true) break;
      if (this.#pending === "") setImmediate(() => this.#flush(controller));
      this.#pending += value;
      if ((controller.desiredSize ?? 0) > this.#pending.length) continue;
      this.#flush(controller);
      await this.#room();
      if (this.#ended) return;
    }
    this.#flush(controller);
    this.#ended = true;
    controller.close();
  }

  #flush(controller: Controller): void {
    if (this.#pending === "" || this.#ended) return;
    controller.enqueue(encoder.encode(this.#pending));
    this.#pending = "";
  }

  /** @throws SkeinError `cancelled` when the client read nothing for too long */
  #room(): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.schedule(clientStallMs, () =>
        reject(new SkeinError("cancelled", `The client read nothing for ${clientStallMs} ms.`)),
      );
      this.#wake = () => {
        cancel();
        this.#wake = null;
        resolve();
      };
    });
  }

  /** The client is there but takes nothing: an open end is all that it can still be told. */
  #cut(controller: Controller, error: unknown): void {
    this.#ended = true;
    this.#abort.abort(error);
    controller.error(error);
    this.#events.return?.().catch(() => undefined);
  }
}
