import { exitCodes } from "./exit.ts";
import type { RunningRole } from "./processes/config.ts";

/** Closing takes at most this long; then the process ends anyway. */
const closeTimeoutMs = 6_000;

const stopSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Resolves at Ctrl-C, SIGTERM or a closed terminal. */
export function untilStopped(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of stopSignals) process.once(signal, () => resolve());
  });
}

/**
 * Ends the process in order (unlike a signal that nobody handles) as long as it has nothing to close, so that what was
 * begun is removed. Returns a function that ends this.
 */
export function exitWhenStopped(): () => void {
  const onSignal = (): never => process.exit(exitCodes.interrupted);
  for (const signal of stopSignals) process.once(signal, onSignal);
  return () => {
    for (const signal of stopSignals) process.off(signal, onSignal);
  };
}

/** Aborts at Ctrl-C, SIGTERM or a closed terminal. */
export function stopSignal(): AbortSignal {
  const stopping = new AbortController();
  void untilStopped().then(() => stopping.abort());
  return stopping.signal;
}

/**
 * Runs until stopped, then finishes its work and closes, both in bounded time. A second Ctrl-C ends at once.
 * @param release what `exitWhenStopped` returned, if it was called: a signal between two listeners would be lost
 */
export async function runUntilStopped(
  role: RunningRole,
  release: () => void = () => undefined,
): Promise<void> {
  // Timers of idle connections do not keep a process alive; waiting for a signal must.
  const alive = setInterval(() => undefined, 60_000);
  const stopped = untilStopped();
  release();
  await stopped;
  process.once("SIGINT", () => process.exit(exitCodes.interrupted));
  await role.drain?.();
  const timer = setTimeout(() => process.exit(1), closeTimeoutMs);
  await role.close();
  clearTimeout(timer);
  clearInterval(alive);
  process.exit(0);
}
