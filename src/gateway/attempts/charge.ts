/** What an attempt took, and what of it is paid. */
import type { Candidate } from "../../router/predict.ts";
import type { Observation } from "../../router/pace.ts";
import type { EndEvent, Progress } from "./attempt.ts";

/** What an attempt took, in milliseconds since it was sent. */
export interface Work {
  readonly startPosition: number;
  readonly startText: string;
  end: EndEvent | null;
  /** As it was at the end. */
  observation: Observation | null;
  startMs: number | null;
  firstMs: number | null;
  lastMs: number;
}

export function newWork({ position, text }: Progress): Work {
  const unknown = { end: null, observation: null, startMs: null, firstMs: null, lastMs: 0 };
  return { startPosition: position, startText: text, ...unknown };
}

/** Adds what the attempt delivered, and its time, to what the answer is charged for. */
export function charge(
  progress: Progress,
  { providerId, offer }: Candidate,
  work: Work,
  elapsedMs: number,
): void {
  // Another attempt may have delivered some of it while this one caught up.
  const charged = progress.slices.reduce((sum, slice) => sum + slice.outputTokens, 0);
  const outputTokens = Math.max(0, progress.position - charged);
  if (outputTokens === 0 && work.end === null) return;
  const durationMs = Math.floor(Math.min(claimedMs(work), elapsedMs) - progress.repeatedMs);
  progress.slices.push({ providerId, offer, outputTokens, durationMs: Math.max(0, durationMs) });
  progress.repeatedMs = 0;
}

/**
 * Engine time of an attempt. Nobody pays for a failure: neither the silence in which it was noticed, nor that what
 * was emitted is read again elsewhere.
 */
function claimedMs({ startPosition, end, startMs, firstMs, lastMs }: Work): number {
  const isContinuation = startPosition > 0;
  if (end !== null) return end.timings.decodeMs + (isContinuation ? 0 : end.timings.prefillMs);
  return Math.max(0, lastMs - ((isContinuation ? firstMs : startMs) ?? 0));
}
