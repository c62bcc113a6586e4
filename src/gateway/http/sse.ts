/** Server-sent events with back-pressure: what becomes ready in one turn of the event loop is one write. */
import type { ServerResponse } from "node:http";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { clientStallMs } from "../options.ts";

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

/** Sources of bodies: a server takes them to its socket past the stream. */
const sources = new WeakMap<ReadableStream<Uint8Array>, SseSource>();

/**
 * A body that sends the strings of `events`. The iteration is closed when the client goes away, and
 * aborted through `abort`, the body cut, when it reads nothing for too long.
 */
export function sseBody(
  clock: Clock,
  events: AsyncIterator<string>,
  abort: AbortController,
): ReadableStream<Uint8Array> {
  const source = new SseSource(clock, events, abort);
  const body = new ReadableStream<Uint8Array>(source, {
    highWaterMark: unreadBytesMax,
    size: (chunk) => chunk.byteLength,
  });
  sources.set(body, source);
  return body;
}

/** Answers with a response of `sseBody` directly. False: it is another one, or is read already. */
export function sendSse(response: Response, to: ServerResponse): boolean {
  const source = response.body === null ? undefined : sources.get(response.body);
  if (source === undefined || source.isBegun) return false;
  to.writeHead(response.status, Object.fromEntries(response.headers));
  source.begin(new ResponseSink(to, source));
  return true;
}

/** Where events go. */
interface Sink {
  /** Bytes that may still be written before the source is paused. */
  readonly room: number;
  /** Whether a wake-up follows as soon as there is room again. */
  readonly isFull: boolean;
  write(text: string): void;
  end(): void;
  /** The client is there but takes nothing: an open end is all that it can still be told. */
  cut(error: unknown): void;
}

class StreamSink implements Sink {
  readonly isFull = true;
  readonly #controller: ReadableStreamDefaultController<Uint8Array>;

  constructor(controller: ReadableStreamDefaultController<Uint8Array>) {
    this.#controller = controller;
  }

  get room(): number {
    return this.#controller.desiredSize ?? 0;
  }

  write(text: string): void {
    this.#controller.enqueue(encoder.encode(text));
  }

  end(): void {
    this.#controller.close();
  }

  cut(error: unknown): void {
    this.#controller.error(error);
  }
}

class ResponseSink implements Sink {
  readonly #response: ServerResponse;

  constructor(response: ServerResponse, source: SseSource) {
    this.#response = response;
    response.on("drain", () => source.pull());
    response.once("close", () => {
      if (!response.writableFinished) source.cancel().catch(() => undefined);
    });
  }

  get room(): number {
    return unreadBytesMax - this.#response.writableLength;
  }

  get isFull(): boolean {
    return this.#response.writableNeedDrain;
  }

  write(text: string): void {
    this.#response.write(text);
  }

  end(): void {
    this.#response.end();
  }

  cut(): void {
    this.#response.destroy();
  }
}

class SseSource implements UnderlyingDefaultSource<Uint8Array> {
  isBegun = false;
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

  start(controller: ReadableStreamDefaultController<Uint8Array>): void {
    // A server that sends it by itself does so in this turn.
    setImmediate(() => {
      if (!this.isBegun) this.begin(new StreamSink(controller));
    });
  }

  begin(sink: Sink): void {
    this.isBegun = true;
    this.#pump(sink).catch((error: unknown) => this.#cut(sink, error));
  }

  pull(): void {
    this.#wake?.();
  }

  async cancel(): Promise<void> {
    this.isBegun = true;
    this.#ended = true;
    this.#abort.abort(new SkeinError("cancelled", "The client went away."));
    this.#wake?.();
    await this.#events.return?.();
  }

  async #pump(sink: Sink): Promise<void> {
    for (;;) {
      const { value, done } = await this.#events.next();
      if (this.#ended) return;
      if (done === true) break;
      if (this.#pending === "") setImmediate(() => this.#flush(sink));
      this.#pending += value;
      if (sink.room > this.#pending.length) continue;
      this.#flush(sink);
      if (sink.isFull) await this.#room();
      if (this.#ended) return;
    }
    this.#flush(sink);
    this.#ended = true;
    sink.end();
  }

  #flush(sink: Sink): void {
    if (this.#pending === "" || this.#ended) return;
    const text = this.#pending;
    this.#pending = "";
    sink.write(text);
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

  #cut(sink: Sink, error: unknown): void {
    this.#ended = true;
    this.#abort.abort(error);
    sink.cut(error);
    this.#events.return?.().catch(() => undefined);
  }
}
