import { SkeinError } from "../util/errors.ts";
import { handshakeFrameBytesMax } from "./port.ts";

export const lengthBytes = 4;
/** First size of the buffer for a frame that comes in pieces; it doubles as they come. */
const bufferBytesMin = 1_024;

/**
 * Cuts a byte stream into frames. What is kept of an unfinished frame are its bytes, in one buffer: neither
 * the length it announces nor the number of pieces it comes in costs memory.
 */
export class FrameReader {
  /** Longest frame whose beginning is still to come. */
  frameBytesMax: number = handshakeFrameBytesMax;
  #buffer = new Uint8Array(0);
  #filled = 0;

  /**
   * Calls back with each whole frame before it looks at the next one's length.
   *
   * @throws SkeinError `protocol_violation` for a length beyond the limit
   */
  push(data: Uint8Array, onFrame: (frame: Uint8Array) => void): void {
    let rest = data;
    while (rest.length > 0) {
      const whole = this.#filled === 0 ? this.#wholeFrame(rest) : null;
      if (whole !== null) {
        rest = rest.subarray(lengthBytes + whole.length);
        onFrame(whole);
        continue;
      }
      const taken = Math.min(rest.length, this.#target() - this.#filled);
      this.#append(rest.subarray(0, taken));
      rest = rest.subarray(taken);
      if (this.#filled === lengthBytes) this.#checkLength(lengthAt(this.#buffer));
      if (this.#filled < lengthBytes || this.#filled < this.#target()) continue;
      const frame = this.#buffer.subarray(lengthBytes, this.#filled);
      this.#buffer = new Uint8Array(0);
      this.#filled = 0;
      onFrame(frame);
    }
  }

  /** The frame at the beginning of `data`, not copied; null when not all of it is there. */
  #wholeFrame(data: Uint8Array): Uint8Array | null {
    if (data.length < lengthBytes) return null;
    const length = lengthAt(data);
    this.#checkLength(length);
    const end = lengthBytes + length;
    return data.length < end ? null : data.subarray(lengthBytes, end);
  }

  /** Bytes to collect before the next decision: the length, then the frame. */
  #target(): number {
    return this.#filled < lengthBytes ? lengthBytes : lengthBytes + lengthAt(this.#buffer);
  }

  #checkLength(length: number): void {
    if (length <= this.frameBytesMax) return;
    throw new SkeinError(
      "protocol_violation",
      `A frame of ${length} bytes was announced; ${this.frameBytesMax} are allowed.`,
    );
  }

  #append(bytes: Uint8Array): void {
    const needed = this.#filled + bytes.length;
    if (needed > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(needed, 2 * this.#buffer.length, bufferBytesMin));
      grown.set(this.#buffer.subarray(0, this.#filled));
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#filled);
    this.#filled = needed;
  }
}

function lengthAt(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, lengthBytes).getUint32(0);
}
