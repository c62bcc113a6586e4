/**
 * Cuts a streamed text before the first occurrence of any stop sequence. Text that could still turn
 * out to be the beginning of a stop sequence is held back.
 */
export class StopMatcher {
  readonly #stop: readonly string[];
  #held = "";
  #stopped = false;

  constructor(stop: readonly string[]) {
    this.#stop = stop.filter((sequence) => sequence !== "");
  }

  /** Adds text; returns what is now certain. Once stopped, everything later is ignored. */
  push(text: string): { text: string; stopped: boolean } {
    if (this.#stopped) return { text: "", stopped: true };
    this.#held += text;
    const matches = this.#stop.map((sequence) => this.#held.indexOf(sequence)).filter((at) => at >= 0);
    if (matches.length > 0) {
      this.#stopped = true;
      return { text: this.#take(Math.min(...matches)), stopped: true };
    }
    return { text: this.#take(this.#held.length - this.#pendingLength()), stopped: false };
  }

  /** The natural end: what was held back is text after all. */
  flush(): string {
    return this.#stopped ? "" : this.#take(this.#held.length);
  }

  #take(length: number): string {
    const taken = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return taken;
  }

  /** Length of the longest suffix that is a proper prefix of some stop sequence. */
  #pendingLength(): number {
    const longest = Math.max(0, ...this.#stop.map((sequence) => sequence.length - 1));
    for (let length = Math.min(longest, this.#held.length); length > 0; length--) {
      const suffix = this.#held.slice(-length);
      if (this.#stop.some((sequence) => sequence.startsWith(suffix))) return length;
    }
    return 0;
  }
}
