/**
 * Where requests wait while every provider of their model is full: first come, first served, bounded in
 * length and time. Whoever was woken for a slot that was gone already keeps its place.
 */
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";

/** Requests that wait in all; each holds its prompt in memory. */
export const waitingMax = 1_000;
/** Slots that other gateways free are not announced: the first in line looks for itself this often. */
const pulseMs = 200;

interface Waiter {
  readonly name: string;
  readonly ticket: number;
  readonly settle: (turn: boolean) => void;
}

export class WaitingRoom {
  readonly #clock: Clock;
  /** In order of tickets. */
  #waiting: Waiter[] = [];
  #nextTicket = 0;
  #cancelPulse: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** A place in the line; kept until the request is served. */
  ticket(): number {
    return this.#nextTicket++;
  }

  /** Whether somebody waits for a model, so that newcomers must not overtake. */
  isWaiting(name: string): boolean {
    return this.#waiting.some((waiter) => waiter.name === name);
  }

  /** A slot may be free: the first in each model's line gets a turn. */
  wake(): void {
    const seen = new Set<string>();
    for (const waiter of this.#waiting) {
      if (seen.has(waiter.name)) continue;
      seen.add(waiter.name);
      waiter.settle(true);
    }
  }

  /**
   * Waits for a turn; false when the time is over.
   *
   * @throws SkeinError `overloaded` when too many wait already; the signal's reason when aborted
   */
  turn(name: string, ticket: number, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    if (this.#waiting.length >= waitingMax) {
      throw new SkeinError("overloaded", `${waitingMax} requests wait at this gateway already.`, {
        hint: "Try again in a few seconds.",
        retry: "never",
      });
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        cancelTimeout();
        signal.removeEventListener("abort", onAbort);
      };
      const onAbort = (): void => {
        leave();
        reject(signal.reason);
      };
      const waiter: Waiter = {
        name,
        ticket,
        settle: (turn) => {
          leave();
          resolve(turn);
        },
      };
      const cancelTimeout = this.#clock.schedule(timeoutMs, () => waiter.settle(false));
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      const after = this.#waiting.findIndex((other) => other.ticket > ticket);
      this.#waiting.splice(after < 0 ? this.#waiting.length : after, 0, waiter);
      this.#pulse();
    });
  }

  #pulse(): void {
    if (this.#cancelPulse !== null) return;
    this.#cancelPulse = this.#clock.schedule(pulseMs, () => {
      this.#cancelPulse = null;
      this.wake();
      if (this.#waiting.length > 0) this.#pulse();
    });
  }
}
