/**
 * How long providers were there, for their reputation. Whoever says that it leaves is away, not down; one that vanished, or
 * whose engine does not run, is down until it is back, for a bounded time: gone for good is no worse than gone for an hour.
 */
import type { Clock } from "../../util/clock.ts";

/** One absence counts at most so long. */
const absenceMaxMs = 3600_000;
/** Time up is noted this often: each note is a write to the disk. */
const noteIntervalMs = 60_000;
/** Providers that vanished lately; of more, the oldest are forgotten. */
const absentMax = 10_000;

export interface Seen {
  readonly upMs: number;
  readonly downMs: number;
}

export class Uptime {
  readonly #clock: Clock;
  readonly #note: (providerId: string, seen: Seen) => void;
  /** When it was looked at last, of those that are here. */
  readonly #present = new Map<string, number>();
  /** When they vanished. */
  readonly #absent = new Map<string, number>();

  constructor(clock: Clock, note: (providerId: string, seen: Seen) => void) {
    this.#clock = clock;
    this.#note = note;
  }

  joined(providerId: string): void {
    const nowMs = this.#clock.monotonicMs();
    const goneMs = this.#absent.get(providerId);
    this.#absent.delete(providerId);
    if (goneMs !== undefined)
      this.#note(providerId, { upMs: 0, downMs: Math.min(absenceMaxMs, nowMs - goneMs) });
    this.#present.set(providerId, nowMs);
  }

  /** Time since the last note. @param isReady whether its engine runs */
  look(providerId: string, isReady: boolean, isLast = false): void {
    const beforeMs = this.#present.get(providerId);
    if (beforeMs === undefined) return;
    const nowMs = this.#clock.monotonicMs();
    const passedMs = nowMs - beforeMs;
    if (isReady && !isLast && passedMs < noteIntervalMs) return;
    this.#present.set(providerId, nowMs);
    this.#note(providerId, isReady ? { upMs: passedMs, downMs: 0 } : { upMs: 0, downMs: passedMs });
  }

  /** @param hasSaidSo it told everybody before */
  left(providerId: string, hasSaidSo: boolean): void {
    this.look(providerId, true, true);
    this.#present.delete(providerId);
    if (hasSaidSo) return;
    this.#absent.set(providerId, this.#clock.monotonicMs());
    if (this.#absent.size > absentMax) this.#absent.delete(this.#absent.keys().next().value!);
  }
}
