/** What answers and audits say about providers, over restarts, and which models they may not answer for any more. */
import {
  type AtStake,
  newRecord,
  record,
  type ReputationEvent,
  type ReputationRecord,
  type Standings,
  standingOf,
} from "../../audit/reputation.ts";
import type { Store } from "../../store/port.ts";
import { utf8 } from "../../util/bytes.ts";
import type { Clock } from "../../util/clock.ts";
import { toSkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";
import { neutralTrust } from "../../router/policy.ts";
import type { Trust } from "../directory/trust.ts";
import type { Seen } from "../directory/uptime.ts";

/** A provider that never came back is forgotten. */
const keptMs: number = 180 * 24 * 3600_000;
/** As long as one proved failure suspends: two and a half half-lives of 30 days. */
const excludedMs: number = 75 * 24 * 3600_000;
/** Records change with every answer; they are written this often. */
const writeIntervalMs = 5_000;
/** Of more, the least recently changed are only in the store. */
const recordsMax = 10_000;
const recordPrefix = "audit/reputation/";
const excludedPrefix = "audit/excluded/";

export interface Exclusion {
  readonly modelId: string;
  /** In words. */
  readonly reason: string;
  /** Hash of the receipt that was wrong. */
  readonly receipt: string;
  readonly untilMs: number;
}

/** Where nothing is at stake but reputation. */
const typicalStake: AtStake = { tier: "exact", feeNanoUsd: 0n, forfeitNanoUsd: null, evidence: 1 };

interface Deps {
  readonly clock: Clock;
  readonly store: Store;
  readonly log: Logger;
}

export class Reputations implements Trust {
  readonly #deps: Deps;
  readonly #records = new Map<string, ReputationRecord>();
  readonly #excluded = new Map<string, Exclusion>();
  readonly #changed = new Set<string>();
  /** Resolves when what earlier processes knew is there. */
  readonly ready: Promise<void>;
  #cancelWrite: () => void;
  #isClosed = false;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.ready = this.#load().catch((error: unknown) => this.#warn(error, "reputations are not read"));
    this.#cancelWrite = deps.clock.schedule(writeIntervalMs, () => this.#writeAll());
  }

  note(providerId: string, event: ReputationEvent): void {
    const nowMs = this.#deps.clock.nowMs();
    const before = this.#records.get(providerId) ?? newRecord(nowMs);
    this.#records.delete(providerId);
    this.#records.set(providerId, record(before, event, nowMs));
    this.#changed.add(providerId);
    if (this.#records.size > recordsMax) this.#records.delete(this.#records.keys().next().value!);
  }

  completed(providerId: string, paceShare: number): void {
    this.note(providerId, { type: "completed", paceShare, weight: 1 });
  }

  observed(providerId: string, seen: Seen): void {
    this.note(providerId, { type: "observed", ...seen });
  }

  aborted(providerId: string): void {
    this.note(providerId, { type: "aborted", weight: 1 });
  }

  standing(providerId: string, atStake: Partial<AtStake> = {}): Standings {
    const nowMs = this.#deps.clock.nowMs();
    const known = this.#records.get(providerId) ?? newRecord(nowMs);
    return standingOf(known, nowMs, { ...typicalStake, ...atStake });
  }

  /**
   * What audits found, and nothing else: whoever served first would else get all the work, because it has served.
   * How often answers break off, and how fast they come, the router measures itself.
   */
  routing(providerId: string): number {
    if (!this.#records.has(providerId)) return neutralTrust;
    const { standing, factors } = this.standing(providerId);
    if (standing === "suspended") return 0;
    return neutralTrust * factors.find(({ name }) => name === "honesty")!.value;
  }

  isExcluded(providerId: string, modelId: string): boolean {
    return this.#exclusion(providerId, modelId) !== undefined;
  }

  exclusionsOf(providerId: string): readonly Exclusion[] {
    return [...this.#excluded.entries()]
      .filter(([key]) => key.startsWith(`${providerId}/`))
      .flatMap(([, { modelId }]) => this.#exclusion(providerId, modelId) ?? []);
  }

  exclude(providerId: string, modelId: string, found: Pick<Exclusion, "reason" | "receipt">): void {
    const exclusion = { modelId, ...found, untilMs: this.#deps.clock.nowMs() + excludedMs };
    const key = `${providerId}/${modelId}`;
    this.#excluded.set(key, exclusion);
    this.#put(excludedPrefix + key, exclusion, excludedMs);
  }

  /** Writes what has changed. */
  close(): void {
    this.#isClosed = true;
    this.#writeAll();
    this.#cancelWrite();
  }

  #exclusion(providerId: string, modelId: string): Exclusion | undefined {
    const found = this.#excluded.get(`${providerId}/${modelId}`);
    return found !== undefined && found.untilMs > this.#deps.clock.nowMs() ? found : undefined;
  }

  async #load(): Promise<void> {
    const { store } = this.#deps;
    for (const { key, value } of await store.scan({ prefix: excludedPrefix, limit: recordsMax })) {
      this.#excluded.set(key.slice(excludedPrefix.length), parsed(value) as Exclusion);
    }
    for (const { key, value } of await store.scan({ prefix: recordPrefix, limit: recordsMax })) {
      const providerId = key.slice(recordPrefix.length);
      const since = this.#records.get(providerId);
      const before = parsed(value) as ReputationRecord;
      this.#records.set(providerId, since === undefined ? before : sumOf(before, since));
    }
  }

  #writeAll(): void {
    for (const providerId of this.#changed) {
      const known = this.#records.get(providerId);
      if (known !== undefined) this.#put(recordPrefix + providerId, known, keptMs);
    }
    this.#changed.clear();
    if (this.#isClosed) return;
    this.#cancelWrite = this.#deps.clock.schedule(writeIntervalMs, () => this.#writeAll());
  }

  #put(key: string, value: object, lifetimeMs: number): void {
    const expiresAtMs = this.#deps.clock.nowMs() + lifetimeMs;
    this.#deps.store
      .commit({ changes: [{ type: "put", key, value: utf8(JSON.stringify(value)), expiresAtMs }] })
      .catch((error: unknown) => this.#warn(error, "a reputation is not kept"));
  }

  #warn(error: unknown, what: string): void {
    if (!this.#isClosed) this.#deps.log.warn({ reason: toSkeinError(error).message }, what);
  }
}

function parsed(value: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(value));
}

/** What was known, and the few things that came while it was read. */
function sumOf(before: ReputationRecord, since: ReputationRecord): ReputationRecord {
  const sum: Record<string, number> = {};
  for (const key of Object.keys(since) as (keyof ReputationRecord)[]) {
    sum[key] = key === "atMs" ? since.atMs : (before[key] ?? 0) + since[key];
  }
  return sum as unknown as ReputationRecord;
}
