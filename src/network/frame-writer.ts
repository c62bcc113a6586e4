/**
 * Sends frames of many requests over one connection: the first of a quiet moment at once, what follows
 * within a few milliseconds together, so that the tokens of one inference step cost one write.
 */
import { encodeFrame, type Frame } from "../protocol/frames.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { type Connection, frameBytesMax } from "./port.ts";

/** Below what a person notices, above what a step of a batch takes to hand out its tokens. */
export const flushDelayMs = 2;
/** Frames of one connection that wait for the peer; producers are paused long before by their credit. */
const pendingFramesMax = 50_000;
/** Bytes of frames that wait: a peer that takes nothing is cut off beyond them. */
export const pendingBytesMax: number = 8 * frameBytesMax;
/** Bytes that wait before more requests are refused: the rest is for what belongs to running ones. */
export const pendingRequestBytesMax: number = 4 * frameBytesMax;

type Haste = "now" | "soon" | "later";

export class FrameWriter {
  readonly #clock: Clock;
  readonly #connection: Connection;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #cancelTimer: (() => void) | null = null;
  #lastWriteMs = Number.NEGATIVE_INFINITY;
  #blocked = false;
  #closed = false;

  constructor(clock: Clock, connection: Connection) {
    this.#clock = clock;
    this.#connection = connection;
  }

  /**
   * @param haste `now`: somebody waits for this very frame (a first token), it takes the rest along; `later`: something that
   *   is waited for may follow soon, and is better sent together with it
   * @returns the frame's bytes
   * @throws SkeinError `protocol_violation` when they are more than a frame may have
   */
  write(frame: Frame, haste: Haste = "soon"): number {
    const bytes = encodeFrame(frame);
    if (bytes.length > frameBytesMax) {
      throw new SkeinError(
        "protocol_violation",
        `A ${frame.type} frame has ${bytes.length} bytes; ${frameBytesMax} are allowed.`,
      );
    }
    this.#push(bytes, haste);
    return bytes.length;
  }

  /** @throws SkeinError `request_too_large`; `overloaded` when too much waits for the peer already */
  writeRequest(frame: Extract<Frame, { type: "generate" | "count" | "trace" | "embed" }>): void {
    const bytes = encodeFrame(frame);
    if (bytes.length > frameBytesMax) {
      throw new SkeinError(
        "request_too_large",
        `The request takes ${bytes.length} bytes on its way to a provider; ${frameBytesMax} are allowed.`,
        { hint: "Shorten the messages." },
      );
    }
    if (this.#pendingBytes + bytes.length > pendingRequestBytesMax) {
      throw new SkeinError("overloaded", "Too many requests wait to be sent to this provider.");
    }
    this.#push(bytes, "now");
  }

  /** Sends one last frame after all others, or instead of them when the peer does not keep up. */
  end(frame: Frame): void {
    if (this.#closed) return;
    if (!this.#blocked) this.#flush();
    this.#send(encodeFrame(frame));
    this.#close();
  }

  #push(bytes: Uint8Array, haste: Haste): void {
    if (this.#closed) return;
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    if (this.#pending.length > pendingFramesMax || this.#pendingBytes > pendingBytesMax) {
      this.#close();
      return this.#connection.close("the peer does not read");
    }
    if (this.#blocked) return;
    const isQuiet = (): boolean => this.#clock.monotonicMs() - this.#lastWriteMs > flushDelayMs;
    if (haste === "now" || (haste === "soon" && isQuiet())) return this.#flush();
    this.#cancelTimer ??= this.#clock.schedule(flushDelayMs, () => this.#flush());
  }

  #flush(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#lastWriteMs = this.#clock.monotonicMs();
    let sent = 0;
    while (sent < this.#pending.length && !this.#blocked && !this.#closed) {
      const bytes = this.#pending[sent++]!;
      this.#pendingBytes -= bytes.length;
      if (!this.#send(bytes)) this.#resumeWhenDrained();
    }
    if (!this.#closed) this.#pending = this.#pending.slice(sent);
  }

  #send(bytes: Uint8Array): boolean {
    try {
      return this.#connection.send(bytes);
    } catch {
      // Closed: everybody concerned hears of it from the connection.
      this.#close();
      return true;
    }
  }

  #resumeWhenDrained(): void {
    this.#blocked = true;
    void this.#connection.drained().then(() => {
      this.#blocked = false;
      this.#flush();
    });
  }

  #close(): void {
    this.#closed = true;
    this.#cancelTimer?.();
    this.#pending = [];
    this.#pendingBytes = 0;
  }
}
