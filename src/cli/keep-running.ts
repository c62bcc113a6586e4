/** Starts something again whenever it ends, however often that fails, and not faster than makes sense. */
import type { Clock } from "../util/clock.ts";
import { type SkeinError, toSkeinError } from "../util/errors.ts";

const restartMinMs = 1_000;
/** A port that is taken or a disk that is full is looked at again this often. */
const restartMaxMs = 30_000;
/** What ran for this long was well: its end is a new trouble, not more of the same. */
const healthyMs = 60_000;

export interface Mortal {
  /** Called once when it ends without having been asked to; immediately when it has ended already. */
  onExit(listener: (how: string) => void): void;
}

export type RestartEvent =
  | { readonly type: "ended"; readonly how: string; readonly retryInMs: number }
  | { readonly type: "failed"; readonly error: SkeinError; readonly retryInMs: number }
  | { readonly type: "again" };

/**
 * Resolves when it runs for the first time, and from then on keeps it running until `signal` aborts.
 *
 * @throws whatever the first start throws: that is for a person to mend
 */
export async function keepRunning<T extends Mortal>(
  deps: { readonly clock: Clock; readonly signal: AbortSignal },
  start: () => Promise<T>,
  onEvent: (event: RestartEvent) => void,
): Promise<T> {
  const { clock, signal } = deps;
  let delayMs = restartMinMs;
  let startedMs = 0;

  function nextDelay(): number {
    const retryInMs = delayMs;
    delayMs = Math.min(restartMaxMs, 2 * delayMs);
    return retryInMs;
  }

  function later(event: RestartEvent & { retryInMs: number }): void {
    onEvent(event);
    clock.schedule(event.retryInMs, () => void again());
  }

  async function again(): Promise<void> {
    if (signal.aborted) return;
    try {
      watch(await start());
      onEvent({ type: "again" });
    } catch (error) {
      if (signal.aborted) return;
      later({ type: "failed", error: toSkeinError(error), retryInMs: nextDelay() });
    }
  }

  function watch(running: T): void {
    startedMs = clock.monotonicMs();
    running.onExit((how) => {
      if (signal.aborted) return;
      if (clock.monotonicMs() - startedMs >= healthyMs) delayMs = restartMinMs;
      later({ type: "ended", how, retryInMs: nextDelay() });
    });
  }

  const first = await start();
  watch(first);
  return first;
}
