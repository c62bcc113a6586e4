/**
 * Permission to send token frames: so many, and of so many bytes, may be unread at the other end. Spent by
 * the sender, given back as the reader reads, waited for when it runs out.
 */
export class Credit {
  readonly #framesMax: number;
  readonly #bytesMax: number;
  /** Bytes of each unread frame, the oldest first. */
  #unread: number[] = [];
  #unreadBytes = 0;
  #wake: (() => void) | null = null;

  constructor(framesMax: number, bytesMax: number) {
    this.#framesMax = framesMax;
    this.#bytesMax = bytesMax;
  }

  get #available(): boolean {
    return this.#unread.length < this.#framesMax && this.#unreadBytes < this.#bytesMax;
  }

  /** Resolves when one frame may be sent, or the signal aborts. */
  async available(signal: AbortSignal): Promise<void> {
    while (!this.#available && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          signal.removeEventListener("abort", wake);
          this.#wake = null;
          resolve();
        };
        this.#wake = wake;
        signal.addEventListener("abort", wake, { once: true });
      });
    }
  }

  /** A frame was sent. */
  spend(bytes: number): void {
    this.#unread.push(bytes);
    this.#unreadBytes += bytes;
  }

  /** The other end has read so many frames. */
  grant(frames: number): void {
    for (const bytes of this.#unread.splice(0, frames)) this.#unreadBytes -= bytes;
    this.#wake?.();
  }
}
