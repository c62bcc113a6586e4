/** Evidence of the float tier, over restarts. */
import { type Evidence, noEvidence } from "../../audit/evidence.ts";
import { EvidenceBook, type EvidenceEntry, evidenceWindowMs } from "../../audit/evidence-book.ts";
import type { Store } from "../../store/port.ts";
import { utf8 } from "../../util/bytes.ts";
import type { Clock } from "../../util/clock.ts";
import { toSkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";

const prefix = "audit/evidence/";
/** As many as the book keeps. */
const entriesMax = 10_000;

interface Deps {
  readonly clock: Clock;
  readonly store: Store;
  readonly log: Logger;
}

export class StoredEvidence {
  readonly #deps: Deps;
  readonly #book = new EvidenceBook();

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#load().catch((error: unknown) => this.#warn(error, "evidence is not read"));
  }

  of(providerId: string, modelId: string, nowMs: number): Evidence {
    return this.#book.of(providerId, modelId, nowMs);
  }

  set(providerId: string, modelId: string, evidence: Evidence, nowMs: number): void {
    this.#book.set(providerId, modelId, evidence, nowMs);
    const entry = this.#book.entry(providerId, modelId)!;
    const value = utf8(JSON.stringify(entry));
    const expiresAtMs = entry.sinceMs + evidenceWindowMs;
    this.#deps.store
      .commit({ changes: [{ type: "put", key: `${prefix}${providerId}/${modelId}`, value, expiresAtMs }] })
      .catch((error: unknown) => this.#warn(error, "evidence is not kept"));
  }

  /** The largest W so far: how often its answers are audited follows from it. */
  weight(providerId: string, modelId: string): number {
    return Math.exp(this.#book.of(providerId, modelId, this.#deps.clock.nowMs()).logMost);
  }

  about(providerId: string): { readonly modelId: string; readonly evidence: Evidence }[] {
    return this.#book
      .about(providerId, this.#deps.clock.nowMs())
      .filter(({ evidence }) => evidence !== noEvidence);
  }

  async #load(): Promise<void> {
    for (const { key, value } of await this.#deps.store.scan({ prefix, limit: entriesMax })) {
      const [providerId = "", modelId = ""] = key.slice(prefix.length).split("/", 2);
      // What came meanwhile counts.
      if (this.#book.entry(providerId, modelId) !== null) continue;
      this.#book.restore(providerId, modelId, JSON.parse(new TextDecoder().decode(value)) as EvidenceEntry);
    }
  }

  #warn(error: unknown, what: string): void {
    this.#deps.log.warn({ reason: toSkeinError(error).message }, what);
  }
}
