/** The store that reads like its description: one map, gone with the process. */
import type { Clock } from "../util/clock.ts";
import { equalBytes } from "../util/bytes.ts";
import type { Batch, Change, Scan, Store, StoredRecord } from "./port.ts";
import { checkBatch, checkKey, checkScan, scanBytesMax, storeClosed } from "./port.ts";

interface Kept {
  readonly value: Uint8Array;
  readonly expiresAtMs: number | null;
}

export class MemoryStore implements Store {
  readonly #clock: Clock;
  readonly #records = new Map<string, Kept>();
  #isClosed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async get(key: string): Promise<Uint8Array | null> {
    this.#checkOpen();
    checkKey(key);
    return this.#live(key)?.slice() ?? null;
  }

  async scan(scan: Scan): Promise<StoredRecord[]> {
    this.#checkOpen();
    checkScan(scan);
    const { prefix, after, limit, reverse = false } = scan;
    const isBehind = (key: string): boolean => after === undefined || (reverse ? key < after : key > after);
    const keys = [...this.#records.keys()]
      .filter((key) => key.startsWith(prefix) && isBehind(key))
      .toSorted();
    if (reverse) keys.reverse();
    const found: StoredRecord[] = [];
    let bytes = 0;
    for (const key of keys) {
      const value = this.#live(key);
      if (value === null) continue;
      bytes += value.length;
      if (found.length === limit || (found.length > 0 && bytes > scanBytesMax)) break;
      found.push({ key, value: value.slice() });
    }
    return found;
  }

  async commit(batch: Batch): Promise<boolean> {
    this.#checkOpen();
    checkBatch(batch);
    const holds = (batch.conditions ?? []).every(({ key, value }) => {
      const live = this.#live(key);
      return live === null || value === null ? live === value : equalBytes(live, value);
    });
    if (holds) for (const change of batch.changes) this.#apply(change);
    return holds;
  }

  async sweep(limit: number): Promise<number> {
    this.#checkOpen();
    const expired = [...this.#records.keys()].filter((key) => this.#live(key) === null).slice(0, limit);
    for (const key of expired) this.#records.delete(key);
    return expired.length;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #apply(change: Change): void {
    if (change.type === "put") {
      this.#records.set(change.key, { value: change.value.slice(), expiresAtMs: change.expiresAtMs });
    } else if (change.type === "delete") {
      this.#records.delete(change.key);
    } else {
      for (const key of this.#records.keys()) if (key.startsWith(change.prefix)) this.#records.delete(key);
    }
  }

  #live(key: string): Uint8Array | null {
    const kept = this.#records.get(key);
    if (kept === undefined) return null;
    return kept.expiresAtMs !== null && kept.expiresAtMs <= this.#clock.nowMs() ? null : kept.value;
  }

  #checkOpen(): void {
    if (this.#isClosed) throw storeClosed();
  }
}
