/** Evidence of the float tier by provider and model, in windows: what was long ago neither helps nor hurts. */
import { type Evidence, noEvidence } from "./evidence.ts";

/** A provider that turns has at most so much honest past to spend. */
const windowMs: number = 24 * 3600_000;
/** Of more, the least recently audited are forgotten. */
const entriesMax = 10_000;

export class EvidenceBook {
  readonly #entries = new Map<string, { readonly sinceMs: number; readonly evidence: Evidence }>();

  of(providerId: string, modelId: string, nowMs: number): Evidence {
    const entry = this.#entries.get(keyOf(providerId, modelId));
    return entry === undefined || nowMs >= entry.sinceMs + windowMs ? noEvidence : entry.evidence;
  }

  set(providerId: string, modelId: string, evidence: Evidence, nowMs: number): void {
    const key = keyOf(providerId, modelId);
    const before = this.#entries.get(key);
    const isSameWindow = before !== undefined && nowMs < before.sinceMs + windowMs;
    this.#entries.delete(key);
    this.#entries.set(key, { sinceMs: isSameWindow ? before.sinceMs : nowMs, evidence });
    if (this.#entries.size > entriesMax) this.#entries.delete(this.#entries.keys().next().value!);
  }
}

function keyOf(providerId: string, modelId: string): string {
  return `${providerId}\0${modelId}`;
}
