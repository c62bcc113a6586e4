/** Whole frames over a libp2p stream: a big-endian u32 length, then the frame. */
import type { Stream } from "@libp2p/interface";
import { concatBytes } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { FrameReader, lengthBytes } from "./frame-reader.ts";
import { type Connection, earlyFramesMax, frameBytesMax } from "./port.ts";

/** Unsent bytes before `send` asks to wait. */
const bufferedBytesLow = 256 * 1024;
/** Unsent bytes before a peer that does not read is cut off: one largest frame and what was on its way. */
export const bufferedBytesMax: number = 2 * frameBytesMax;
/**
 * Bytes read before the muxer tells the peer that there is room for as many: a quarter of its smallest window. By itself it
 * tells after every frame, which costs each packet another one the other way.
 */
const windowStepBytes = 64 * 1024;
/** Silence is judged by the session's heartbeat; libp2p's own timer only must not be first. */
const inactivityTimeoutMs = 60_000;

export class Libp2pConnection implements Connection {
  readonly peerId: string;
  readonly remoteAddress: string;
  readonly #stream: Stream;
  readonly #reader = new FrameReader();
  #listener: ((frame: Uint8Array) => void) | null = null;
  #early: Uint8Array[] = [];
  #onActivity: () => void = () => undefined;
  /** Frames of this turn of the event loop: they become one write, one encryption, one packet. */
  #corked: Uint8Array[] = [];
  #corkedBytes = 0;
  #waiting: (() => void)[] = [];
  #closeListeners: ((reason: string) => void)[] = [];
  #closeReason: string | null = null;

  constructor(stream: Stream, peerId: string, remoteAddress: string) {
    this.#stream = stream;
    this.peerId = peerId;
    this.remoteAddress = remoteAddress;
    stream.inactivityTimeout = inactivityTimeoutMs;
    stream.maxWriteBufferLength = 2 * bufferedBytesMax;
    // Not `stream.onDrain()`: in this version it works once and then resolves at once.
    // A part of what waits may have left, or all of it.
    for (const event of ["drain", "idle"] as const) stream.addEventListener(event, () => this.#drain());
    stream.addEventListener("close", (event) => {
      this.#closed(event.error === undefined ? "the peer closed the connection" : event.error.message);
    });
    stream.addEventListener("remoteCloseWrite", () => this.close("the peer closed the connection"));
    const announce = announceSeldom(stream);
    stream.addEventListener("message", (event) => {
      announce.read(event.data.byteLength);
      this.#receive(event.data instanceof Uint8Array ? event.data : event.data.subarray());
    });
  }

  send(frame: Uint8Array): boolean {
    if (this.#closeReason !== null) {
      throw new SkeinError("connection_failed", `The connection is closed: ${this.#closeReason}.`);
    }
    if (frame.length > frameBytesMax) {
      throw new SkeinError(
        "protocol_violation",
        `A frame has ${frame.length} bytes; ${frameBytesMax} are allowed.`,
      );
    }
    if (this.#corked.length === 0) queueMicrotask(() => this.#uncork());
    const header = new Uint8Array(lengthBytes);
    new DataView(header.buffer).setUint32(0, frame.length);
    this.#corked.push(header, frame);
    this.#corkedBytes += lengthBytes + frame.length;
    if (this.#buffered() > bufferedBytesMax) this.close("the peer reads too slowly");
    return this.#buffered() < bufferedBytesLow;
  }

  #buffered(): number {
    return this.#stream.writeBufferLength + this.#corkedBytes;
  }

  #uncork(): void {
    const parts = this.#corked;
    this.#corked = [];
    this.#corkedBytes = 0;
    if (this.#closeReason !== null || parts.length === 0) return;
    try {
      this.#stream.send(concatBytes(parts));
    } catch (error) {
      this.close(error instanceof Error ? error.message : String(error));
    }
  }

  drained(): Promise<void> {
    if (this.#closeReason !== null || this.#buffered() < bufferedBytesLow) return Promise.resolve();
    this.#uncork();
    // Still to be written, or written at once: only in the first case does a drain event follow.
    if (!this.#stream.writableNeedsDrain && this.#stream.writeBufferLength === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #drain(): void {
    if (this.#buffered() < bufferedBytesLow) this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #receive(data: Uint8Array): void {
    if (this.#closeReason !== null) return;
    this.#onActivity();
    try {
      this.#reader.push(data, (frame) => this.#deliver(frame));
    } catch (error) {
      this.#stream.abort(error as Error);
      this.#closed(error instanceof Error ? error.message : String(error));
    }
  }

  #deliver(frame: Uint8Array): void {
    // Earlier frames of the same piece may have ended it.
    if (this.#closeReason !== null) return;
    if (this.#listener !== null) return this.#listener(frame);
    if (this.#early.push(frame) > earlyFramesMax) this.close("the peer sent too much before it was asked");
  }

  onActivity(listener: () => void): void {
    this.#onActivity = listener;
  }

  allowLargeFrames(): void {
    this.#reader.frameBytesMax = frameBytesMax;
  }

  onFrame(listener: (frame: Uint8Array) => void): void {
    this.#listener = listener;
    for (const frame of this.#early.splice(0)) listener(frame);
  }

  onClose(listener: (reason: string) => void): void {
    if (this.#closeReason === null) this.#closeListeners.push(listener);
    else listener(this.#closeReason);
  }

  close(reason = "closed"): void {
    if (this.#closeReason !== null) return;
    this.#uncork();
    this.#stream
      .close({ signal: AbortSignal.timeout(closeTimeoutMs) })
      .catch((error: unknown) =>
        this.#stream.abort(error instanceof Error ? error : new Error(String(error))),
      );
    this.#closed(reason);
  }

  #closed(reason: string): void {
    if (this.#closeReason !== null) return;
    this.#closeReason = reason;
    this.#corked = [];
    this.#wake();
    for (const listener of this.#closeListeners.splice(0)) listener(reason);
  }
}

/** What is queued gets this long to leave; then the stream is reset. */
const closeTimeoutMs = 1_000;

/** What yamux's streams have beside libp2p's. */
interface WindowedStream {
  sendWindowUpdate?: () => void;
}

/** Makes the muxer tell of room only where enough was read since it last did. */
function announceSeldom(stream: Stream & WindowedStream): { read(bytes: number): void } {
  const announce = stream.sendWindowUpdate;
  if (announce === undefined) return { read: () => undefined };
  let untoldBytes = 0;
  stream.sendWindowUpdate = () => {
    if (untoldBytes < windowStepBytes) return;
    untoldBytes = 0;
    announce.call(stream);
  };
  return { read: (bytes) => void (untoldBytes += bytes) };
}
