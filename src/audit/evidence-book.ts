/** Evidence of the float tier by provider and model, in windows: what was long ago neither helps nor hurts. */
import { type Evidence, noEvidence } from "./evidence.ts";

/** A provider that turns has at most so much honest past to spend. */
export const evidenceWindowMs: number = 24 * 3600_000;
/** Of more, the least recently audited are forgotten. */
const entriesMax = 10_000;

export interface EvidenceEntry {
  /** When its window began. */
  readonly sinceMs: number;
  readonly evidence: Evidence;
}

export class EvidenceBook {
  readonly #entries = new Map<string, EvidenceEntry>();

  of(providerId: string, modelId: string, nowMs: number): Evidence {
    const entry = this.#entries.get(keyOf(providerId, modelId));
    return entry === undefined || nowMs >= entry.sinceMs + evidenceWindowMs ? noEvidence : entry.evidence;
  }

  /** What stands against a provider now, by model. */
  about(providerId: string, nowMs: number): { readonly modelId: string; readonly evidence: Evidence }[] {
    return [...this.#entries.keys()]
      .filter((key) => key.startsWith(keyOf(providerId, "")))
      .map((key) => key.slice(keyOf(providerId, "").length))
      .map((modelId) => ({ modelId, evidence: this.of(providerId, modelId, nowMs) }));
  }

  /** As it is kept; null: nothing is. */
  entry(providerId: string, modelId: string): EvidenceEntry | null {
    return this.#entries.get(keyOf(providerId, modelId)) ?? null;
  }

  /** Takes up what was kept. */
  restore(providerId: string, modelId: string, entry: EvidenceEntry): void {
    this.#entries.set(keyOf(providerId, modelId), entry);
  }

  set(providerId: string, modelId: string, evidence: Evidence, nowMs: number): void {
    const key = keyOf(providerId, modelId);
    const before = this.#entries.get(key);
    const isSameWindow = before !== undefined && nowMs < before.sinceMs + evidenceWindowMs;
    this.#entries.delete(key);
    this.#entries.set(key, { sinceMs: isSameWindow ? before.sinceMs : nowMs, evidence });
    if (this.#entries.size > entriesMax) this.#entries.delete(this.#entries.keys().next().value!);
  }
}

function keyOf(providerId: string, modelId: string): string {
  return `${providerId}\0${modelId}`;
}
