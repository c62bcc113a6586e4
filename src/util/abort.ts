import { SkeinError } from "./errors.ts";

export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw abortError(signal);
}

/** The reason of an abort as a SkeinError: the given one, or `cancelled`. */
export function abortError(signal: AbortSignal): SkeinError {
  return signal.reason instanceof SkeinError
    ? signal.reason
    : new SkeinError("cancelled", "The request was cancelled.");
}
