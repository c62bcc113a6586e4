/**
 * Where requests wait, bounded in number and time. Those that found every provider full stand in line:
 * first come, first served, one for each slot that may be free, and whoever finds it taken already keeps
 * its place. Those that wait for a provider to come (back) only look around now and then: they hold up nobody.
 */
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";

/** Requests that wait in all; each holds its prompt in memory. */
export const waitingMax = 1_000;
/** Slots that other gateways free are not announced: whoever waits looks for itself this often. */
const pulseMs = 200;

/** What a request waits for: a free slot, or a provider that can serve it at all. */
export type WaitingFor = "slot" | "provider";

interface Waiter {
  readonly name: string;
  readonly ticket: number;
  readonly waitingFor: WaitingFor;
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

  /** Whether somebody stands in line for a model, so that newcomers must not overtake. */
  hasLine(name: string): boolean {
    return this.#waiting.some((waiter) => waiter.name === name && waiter.waitingFor === "slot");
  }

  /** A slot may be free: the first in each model's line gets a turn. */
  wake(): void {
    const seen = new Set<string>();
    for (const waiter of this.#waiting) {
      if (waiter.waitingFor !== "slot" || seen.has(waiter.name)) continue;
      seen.add(waiter.name);
      waiter.settle(true);
    }
  }

  /**
   * Waits for a turn; false when the time is over.
   *
   * @throws SkeinError `overloaded` when too many wait already; the signal's reason when aborted
   */
  turn(
    { name, ticket, waitingFor }: Pick<Waiter, "name" | "ticket" | "waitingFor">,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<boolean> {
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
        waitingFor,
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
      for (const waiter of this.#waiting) if (waiter.waitingFor === "provider") waiter.settle(true);
      if (this.#waiting.length > 0) this.#pulse();
    });
  }
}
