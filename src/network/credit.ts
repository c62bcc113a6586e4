/** Permission to send: granted by the reader, spent by the sender, waited for when it runs out. */
export class Credit {
  #left: number;
  #wake: (() => void) | null = null;

  constructor(initial: number) {
    this.#left = initial;
  }

  grant(amount: number, ceiling: number): void {
    this.#left = Math.min(ceiling, this.#left + amount);
    this.#wake?.();
    this.#wake = null;
  }

  /** Takes one unit; resolves at once while there is some. */
  async spend(signal: AbortSignal): Promise<void> {
    while (this.#left === 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    this.#left -= 1;
  }
}
