/**
 * How often providers failed lately, over all their sessions: one that comes and goes gets its share of the work
 * back slowly, however fresh its session is.
 */
import type { Clock } from "../../util/clock.ts";

/** After this time half of a failure is forgotten. */
export const halfLifeMs = 30_000;
/** Less than this is nothing. */
const weightMin = 0.1;
/** Beyond this the share hardly changes, and the way back must end. */
const weightMax = 15;
/** Providers that failed lately; of more, the oldest are forgotten. */
const recordsMax = 10_000;

interface Failures {
  readonly weight: number;
  readonly atMs: number;
}

export class Reliability {
  readonly #clock: Clock;
  readonly #failures = new Map<string, Failures>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  failed(providerId: string): void {
    const weight = Math.min(weightMax, this.#weightOf(providerId) + 1);
    this.#failures.delete(providerId);
    this.#failures.set(providerId, { weight, atMs: this.#clock.monotonicMs() });
    if (this.#failures.size > recordsMax) this.#failures.delete(this.#failures.keys().next().value!);
  }

  /** The part of its usual work that a provider should get: 1 without failures, 1/2 directly after the first. */
  share(providerId: string): number {
    return 1 / (1 + this.#weightOf(providerId));
  }

  #weightOf(providerId: string): number {
    const failures = this.#failures.get(providerId);
    if (failures === undefined) return 0;
    const halves = (this.#clock.monotonicMs() - failures.atMs) / halfLifeMs;
    const weight = failures.weight * 2 ** -halves;
    if (weight >= weightMin) return weight;
    this.#failures.delete(providerId);
    return 0;
  }
}
