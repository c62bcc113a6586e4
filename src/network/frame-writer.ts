/**
 * Sends frames of many requests over one connection: the first of a quiet moment at once, what follows
 * within a few milliseconds together, so that the tokens of one inference step cost one write.
 */
import { encodeFrame, type Frame } from "../protocol/frames.ts";
import type { Connection } from "./port.ts";

/** Below what a person notices, above what a step of a batch takes to hand out its tokens. */
export const flushDelayMs = 2;
/** Frames of one connection that wait for the peer; producers are paused long before by their credit. */
const pendingFramesMax = 50_000;

export class FrameWriter {
  readonly #connection: Connection;
  #pending: Frame[] = [];
  #timer: NodeJS.Timeout | null = null;
  #lastWriteMs = Number.NEGATIVE_INFINITY;
  #blocked = false;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** @param isUrgent somebody waits for this very frame (a first token, a request): it takes the rest along */
  write(frame: Frame, isUrgent = false): void {
    this.#pending.push(frame);
    if (this.#pending.length > pendingFramesMax) {
      this.#connection.close("the peer does not read");
      return;
    }
    if (this.#blocked) return;
    if (isUrgent) return this.#flush();
    if (this.#timer !== null) return;
    if (performance.now() - this.#lastWriteMs > flushDelayMs) this.#flush();
    else this.#timer = setTimeout(() => this.#flush(), flushDelayMs);
  }

  /** Everything that waits, now (before a close). */
  flush(): void {
    this.#flush();
  }

  #flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#lastWriteMs = performance.now();
    const frames = this.#pending;
    this.#pending = [];
    for (let i = 0; i < frames.length; i++) {
      let more: boolean;
      try {
        more = this.#connection.send(encodeFrame(frames[i]!));
      } catch {
        return; // Closed: everybody concerned hears of it from the connection.
      }
      if (!more && i < frames.length - 1) {
        this.#pending = frames.slice(i + 1);
        this.#resumeWhenDrained();
        return;
      }
    }
  }

  #resumeWhenDrained(): void {
    this.#blocked = true;
    void this.#connection.drained().then(() => {
      this.#blocked = false;
      this.#flush();
    });
  }
}
