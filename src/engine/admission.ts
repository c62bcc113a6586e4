import { abortError, throwIfAborted } from "../util/abort.ts";
import { SkeinError } from "../util/errors.ts";
import type { EngineLoad } from "./port.ts";

/** Waiting requests per engine. Longer queues only make clients wait for what another provider has. */
export const queueLengthMax = 64;

/** A fixed number of slots and a bounded, first-come-first-served queue for them. */
export class Admission {
  readonly #slots: number;
  readonly #queueLengthMax: number;
  #active = 0;
  #waiting: { admit: () => void; refuse: (error: unknown) => void }[] = [];

  constructor(slots: number, lengthMax: number = queueLengthMax) {
    this.#slots = slots;
    this.#queueLengthMax = lengthMax;
  }

  load(): EngineLoad {
    return { active: this.#active, queued: this.#waiting.length };
  }

  /** Resolves with a function that gives the slot back (idempotent). */
  async enter(signal: AbortSignal): Promise<() => void> {
    throwIfAborted(signal);
    if (this.#active < this.#slots) {
      this.#active += 1;
    } else {
      await this.#wait(signal);
    }
    let left = false;
    return () => {
      if (left) return;
      left = true;
      // The slot is handed on, or becomes free.
      const next = this.#waiting.shift();
      if (next === undefined) this.#active -= 1;
      else next.admit();
    };
  }

  /** Refuses everybody who waits (the engine stops or restarts). */
  refuseAll(error: unknown): void {
    for (const { refuse } of this.#waiting.splice(0)) refuse(error);
  }

  #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting.length >= this.#queueLengthMax) {
      throw new SkeinError(
        "overloaded",
        `The engine's queue is full (${this.#queueLengthMax} requests wait).`,
        {
          hint: "Try again later, or another provider.",
        },
      );
    }
    return new Promise((resolve, reject) => {
      const entry = { admit: () => settle(resolve), refuse: (error: unknown) => settle(() => reject(error)) };
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== entry);
        entry.refuse(abortError(signal));
      };
      const settle = (act: () => void): void => {
        signal.removeEventListener("abort", onAbort);
        act();
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(entry);
    });
  }
}
