/**
 * Where requests wait, bounded in number and time. Those that found every provider full stand in line, one
 * turn for each slot that may be free: whoever's API key has the fewest requests running is next, among
 * equals who came first, and whoever finds the slot taken already keeps its place. Those that wait for a provider to come (back) only look around now and then: they hold up nobody.
 */
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import type { FairShare } from "./fair-share.ts";

/** Requests that wait in all; each holds its prompt in memory. */
export const waitingMax = 1_000;
/** Slots that other gateways free are not announced: whoever waits looks for itself this often. */
const pulseMs = 200;

/** What a request waits for: a free slot, or a provider that can serve it at all. */
export type WaitingFor = "slot" | "provider";

interface Waiter {
  readonly name: string;
  readonly owner: string;
  readonly ticket: number;
  readonly waitingFor: WaitingFor;
  /** Lines of batches come after everybody else. */
  readonly isBatch: boolean;
  readonly settle: (turn: boolean) => void;
  readonly evict: () => void;
}

export type Place = Pick<Waiter, "name" | "owner" | "ticket" | "waitingFor" | "isBatch">;

export class WaitingRoom {
  readonly #clock: Clock;
  readonly #share: FairShare;
  /** In order of tickets. */
  #waiting: Waiter[] = [];
  #nextTicket = 0;
  #cancelPulse: (() => void) | null = null;

  constructor(clock: Clock, share: FairShare) {
    this.#clock = clock;
    this.#share = share;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** A place in the line; kept until the request is served. */
  ticket(): number {
    return this.#nextTicket++;
  }

  /** Whether somebody stands in line for a model, so that newcomers must not overtake. @param isBatch the newcomer is a line of a batch */
  hasLine(name: string, isBatch = false): boolean {
    return this.#waiting.some(
      (waiter) => waiter.name === name && waiter.waitingFor === "slot" && (isBatch || !waiter.isBatch),
    );
  }

  /** How many stand in line for a model; lines of batches stand behind all of them. */
  lineLength(name: string): number {
    return this.#waiting.filter(
      (waiter) => waiter.name === name && waiter.waitingFor === "slot" && !waiter.isBatch,
    ).length;
  }

  /** How many lines of batches stand in line for a model. */
  batchLineLength(name: string): number {
    return this.#waiting.filter(
      (waiter) => waiter.name === name && waiter.waitingFor === "slot" && waiter.isBatch,
    ).length;
  }

  /** A slot may be free: the next in each model's line gets a turn. */
  wake(): void {
    const next = new Map<string, Waiter>();
    for (const waiter of this.#waiting) {
      if (waiter.waitingFor !== "slot") continue;
      const best = next.get(waiter.name);
      if (best === undefined || this.#goesBefore(waiter, best)) next.set(waiter.name, waiter);
    }
    for (const waiter of next.values()) waiter.settle(true);
  }

  /**
   * Waits for a turn; false when the time is over.
   *
   * @throws SkeinError `overloaded` when too many wait already; the signal's reason when aborted
   */
  turn(place: Place, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    if (this.#waiting.length >= waitingMax) this.#makeRoom(place);
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
        ...place,
        evict: () => {
          leave();
          reject(this.#tooMany(place.name));
        },
        settle: (turn) => {
          leave();
          resolve(turn);
        },
      };
      const cancelTimeout = this.#clock.schedule(timeoutMs, () => waiter.settle(false));
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      const after = this.#waiting.findIndex((other) => other.ticket > place.ticket);
      this.#waiting.splice(after < 0 ? this.#waiting.length : after, 0, waiter);
      this.#pulse();
    });
  }

  /** Whether one that came later has its turn sooner. */
  #goesBefore(later: Waiter, earlier: Waiter): boolean {
    if (later.isBatch !== earlier.isBatch) return earlier.isBatch;
    return this.#share.runningOf(later.owner) < this.#share.runningOf(earlier.owner);
  }

  /** A batch, or the API key that waits most, gives a place up, unless it is this one's. @throws SkeinError `overloaded` */
  #makeRoom({ owner, name, isBatch }: Place): void {
    const patient = this.#waiting.findLast((waiter) => waiter.isBatch);
    if (patient !== undefined && !isBatch) return patient.evict();
    const waiting = new Map<string, number>();
    for (const waiter of this.#waiting) waiting.set(waiter.owner, (waiting.get(waiter.owner) ?? 0) + 1);
    const [most, count] = [...waiting].reduce((a, b) => (b[1] > a[1] ? b : a));
    // The newcomer counts, too: two owners must not evict each other in turns.
    if (most === owner || (waiting.get(owner) ?? 0) + 1 >= count) throw this.#tooMany(name);
    this.#waiting.findLast((waiter) => waiter.owner === most)!.evict();
  }

  #tooMany(name: string): SkeinError {
    return new SkeinError("overloaded", `${waitingMax} requests wait at this gateway already.`, {
      hint: "Try again in a few seconds.",
      retry: "never",
      retryAfterSeconds: this.#share.retryAfterSeconds(name, this.lineLength(name)),
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
