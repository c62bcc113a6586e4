/** Server-sent events with back-pressure: what is told in one go, as the tokens of one network packet, is one write. */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";
import { clientStallMs } from "../options.ts";

/** Unread bytes of one client before its providers are paused. */
const unreadBytesMax = 64 * 1024;

const sseHeaders: Readonly<Record<string, string>> = {
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

/** A server takes these to its socket past their streams. */
const bodies = new WeakMap<Response, SseBody>();

/** Answers with the response of an `SseBody` directly. False: it is another one, or is read already. */
export function sendSse(response: Response, to: ServerResponse): boolean {
  const body = bodies.get(response);
  if (body === undefined || body.isBegun) return false;
  to.writeHead(response.status, Object.fromEntries(response.headers));
  // One string for a chunk with its frame costs half of what the server's four writes for it do.
  const isChunked = to.chunkedEncoding;
  to.chunkedEncoding = false;
  body.begin(new ResponseOutlet(to, body, isChunked));
  return true;
}

/** A response of the strings of `events`, which are closed when the client goes away or reads nothing for too long. */
export function sseResponse(
  clock: Clock,
  events: AsyncIterator<string>,
  abort: AbortController,
  headers: Readonly<Record<string, string>>,
): Response {
  const body = new SseBody(clock, abort, () => {
    events.return?.().catch(() => undefined);
  });
  const pump = async (): Promise<void> => {
    for (;;) {
      const { value, done } = await events.next();
      if (done === true) return body.end("");
      await body.write(value);
    }
  };
  pump().catch((error: unknown) => body.cut(error));
  return body.toResponse(headers);
}

/** Where events go. */
interface Outlet {
  /** Bytes that may still be written before whoever tells is paused. */
  readonly room: number;
  /** Whether a wake-up follows as soon as there is room again. */
  readonly isFull: boolean;
  write(text: string): void;
  /** @param last may be empty */
  end(last: string): void;
  /** The client is there but takes nothing: an open end is all that it can still be told. */
  cut(error: unknown): void;
}

class StreamOutlet implements Outlet {
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

  end(last: string): void {
    if (last !== "") this.write(last);
    this.#controller.close();
  }

  cut(error: unknown): void {
    this.#controller.error(error);
  }
}

/** Behind the head, chunks go to the socket itself: the response would cork and uncork it for each. */
class ResponseOutlet implements Outlet {
  readonly #response: ServerResponse;
  /** Chunks with their lengths (RFC 9112, section 7.1); else the connection's end is the body's. */
  readonly #isChunked: boolean;
  /** Null: other responses on the connection go first. */
  readonly #socket: Socket | null;
  #hasHead = false;

  constructor(response: ServerResponse, body: SseBody, isChunked: boolean) {
    this.#response = response;
    this.#isChunked = isChunked;
    const { socket } = response;
    this.#socket = socket;
    const onDrain = (): void => body.hasRoom();
    response.on("drain", onDrain);
    socket?.on("drain", onDrain);
    response.once("close", () => {
      socket?.off("drain", onDrain);
      if (!response.writableFinished) body.left();
    });
  }

  get room(): number {
    return unreadBytesMax - this.#response.writableLength;
  }

  get isFull(): boolean {
    return this.#response.writableNeedDrain || this.#socket?.writableNeedDrain === true;
  }

  write(text: string): void {
    const framed = this.#framed(text);
    if (this.#hasHead && this.#socket !== null && this.#response.socket === this.#socket) {
      this.#socket.write(framed);
      return;
    }
    this.#response.write(framed);
    this.#hasHead = true;
  }

  end(last: string): void {
    this.#response.end(this.#framed(last) + (this.#isChunked ? "0\r\n\r\n" : ""));
  }

  #framed(text: string): string {
    if (!this.#isChunked || text === "") return text;
    return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
  }

  cut(): void {
    this.#response.destroy();
  }
}

/** Before it is sent, nothing has room for more than this. */
const unsent: Outlet = {
  room: unreadBytesMax,
  isFull: true,
  write: () => undefined,
  end: () => undefined,
  cut: () => undefined,
};

/** Bodies that were written to since this turn began: one look at all of them costs less than one for each. */
let unflushed: SseBody[] = [];

function flushAll(): void {
  const bodiesToFlush = unflushed;
  unflushed = [];
  for (const body of bodiesToFlush) body.flush();
}

/** A body of events that come one by one. */
export class SseBody {
  readonly #clock: Clock;
  readonly #abort: AbortController;
  readonly #onLeave: () => void;
  #outlet: Outlet = unsent;
  #pending = "";
  /** All was told. */
  #isWhole = false;
  /** Nothing more is sent. */
  #isOver = false;
  /** Set while there is no room. */
  #full: PromiseWithResolvers<void> | null = null;
  #cancelStall = (): void => undefined;

  /**
   * @param abort when the client goes away, or reads nothing for too long
   * @param onLeave called then, and when it is cut
   */
  constructor(clock: Clock, abort: AbortController, onLeave: () => void = () => undefined) {
    this.#clock = clock;
    this.#abort = abort;
    this.#onLeave = onLeave;
  }

  /** Once: a server that sends it by itself does so in this turn. */
  toResponse(headers: Readonly<Record<string, string>>): Response {
    const source: UnderlyingDefaultSource<Uint8Array> = {
      start: (controller) =>
        void setImmediate(() => this.isBegun || this.begin(new StreamOutlet(controller))),
      pull: () => this.hasRoom(),
      cancel: () => this.left(),
    };
    const size = (chunk: Uint8Array): number => chunk.byteLength;
    const stream = new ReadableStream(source, { highWaterMark: unreadBytesMax, size });
    const response = new Response(stream, { headers: { ...sseHeaders, ...headers } });
    bodies.set(response, this);
    return response;
  }

  get isBegun(): boolean {
    return this.#outlet !== unsent || this.#isOver;
  }

  begin(outlet: Outlet): void {
    this.#outlet = outlet;
    if (this.#isWhole) return this.#finish();
    this.flush();
    this.hasRoom();
  }

  /** Whole events. */
  readonly write: Sink<string> = (text) => {
    if (this.#isOver) return undefined;
    if (this.#pending === "" && unflushed.push(this) === 1) queueMicrotask(flushAll);
    this.#pending += text;
    if (this.#outlet.room > this.#pending.length) return undefined;
    this.flush();
    return this.#outlet.isFull ? this.#room() : undefined;
  };

  /** @param last whole events behind all others */
  end(last: string): void {
    this.#pending += last;
    this.#isWhole = true;
    if (this.#outlet === unsent || this.#isOver) return;
    this.#finish();
  }

  flush(): void {
    if (this.#pending === "" || this.#isOver || this.#outlet === unsent) return;
    const text = this.#pending;
    this.#pending = "";
    this.#outlet.write(text);
  }

  #finish(): void {
    const last = this.#pending;
    this.#pending = "";
    this.#isOver = true;
    this.#outlet.end(last);
  }

  #room(): Promise<void> {
    if (this.#full === null) {
      this.#full = Promise.withResolvers();
      this.#cancelStall = this.#clock.schedule(clientStallMs, () =>
        this.cut(new SkeinError("cancelled", `The client read nothing for ${clientStallMs} ms.`)),
      );
    }
    return this.#full.promise;
  }

  hasRoom(): void {
    this.#cancelStall();
    this.#full?.resolve();
    this.#full = null;
  }

  /** The client went away. */
  left(): void {
    if (!this.#isOver) this.#close(new SkeinError("cancelled", "The client went away."));
  }

  /** What can no longer be told well. */
  cut(error: unknown): void {
    if (this.#isOver) return;
    this.#close(error);
    this.#outlet.cut(error);
  }

  #close(reason: unknown): void {
    this.#isOver = true;
    this.#abort.abort(reason);
    this.hasRoom();
    this.#onLeave();
  }
}
