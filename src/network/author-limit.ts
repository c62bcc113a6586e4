import type { Clock } from "../util/clock.ts";

/** Length of the window in which messages are counted. */
export const authorWindowMs = 5_000;
/** Messages of one author in a window: an honest one sends one, and may be delayed behind the one before. */
export const messagesPerAuthorMax = 4;
/** Messages of all authors in a window: each costs the check of a signature, and identities cost nothing. */
export const messagesMax = 500;
/** Authors that are counted apart; those beyond are not heard in this window. */
export const authorsMax = 256;

/** Decides, before anything is spent on it, whether a gossiped message is looked at. */
export class AuthorLimit {
  readonly #clock: Clock;
  readonly #counts = new Map<string, number>();
  #messages = 0;
  #startMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  allows(author: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#startMs >= authorWindowMs) {
      this.#startMs = nowMs;
      this.#messages = 0;
      this.#counts.clear();
    }
    const count = this.#counts.get(author) ?? 0;
    if (count >= messagesPerAuthorMax || this.#messages >= messagesMax) return false;
    if (count === 0 && this.#counts.size >= authorsMax) return false;
    this.#counts.set(author, count + 1);
    this.#messages += 1;
    return true;
  }
}
