/**
 * The store port: records that survive. Text keys in order, bytes as values, atomic batches with conditions;
 * what is kept under which key is the business of the folders above. Implementations: `memory` (for tests and the
 * simulator) and `sqlite` (a file). `store.suite.ts` is the one suite that both pass.
 */
import { SkeinError } from "../util/errors.ts";

/** Characters of a key: printable ASCII, so that every database orders keys alike. */
export const keyLengthMax = 512;
/** One value. Larger things are cut into several records. */
export const valueBytesMax: number = 4 * 1024 * 1024;
/** Changes of one batch, and their bytes. */
export const batchChangesMax = 4096;
export const batchBytesMax: number = 16 * 1024 * 1024;
/** What one scan may return. */
export const scanLimitMax = 10_000;
export const scanBytesMax: number = 16 * 1024 * 1024;

export interface StoredRecord {
  readonly key: string;
  readonly value: Uint8Array;
}

export type Change =
  | {
      readonly type: "put";
      readonly key: string;
      readonly value: Uint8Array;
      /** Milliseconds since 1970 after which the record is gone; null: it stays. */
      readonly expiresAtMs: number | null;
    }
  | { readonly type: "delete"; readonly key: string }
  /** Deletes every record whose key begins so. */
  | { readonly type: "deletePrefix"; readonly prefix: string };

/** What must hold for a batch to be written: the record's value, or null for none. */
export interface Condition {
  readonly key: string;
  readonly value: Uint8Array | null;
}

export interface Batch {
  readonly changes: readonly Change[];
  readonly conditions?: readonly Condition[];
}

export interface Scan {
  readonly prefix: string;
  /** Only keys behind this one (in the order asked for). */
  readonly after?: string;
  /** At most this many records; fewer when they have more than `scanBytesMax` bytes, but always one if there is one. */
  readonly limit: number;
  /** From the last key to the first. */
  readonly reverse?: boolean;
}

export interface Store {
  /** The value, or null when there is none or it has expired. @throws SkeinError `store_failed` */
  get(key: string): Promise<Uint8Array | null>;
  /** Records whose key begins with a prefix, in order of their keys. @throws SkeinError `store_failed` */
  scan(scan: Scan): Promise<StoredRecord[]>;
  /**
   * Writes all changes of a batch in their order, or none. Once it resolves with true they survive the loss of power.
   * False: a condition did not hold. Batches take effect in the order of their calls.
   *
   * @throws SkeinError `overloaded` when too much waits to be written, `store_failed` (it may have been written or not)
   */
  commit(batch: Batch): Promise<boolean>;
  /** Deletes records that have expired, at most `limit`; returns how many it deleted. */
  sweep(limit: number): Promise<number>;
  /** Writes what waits, then closes. Idempotent; whatever is called afterwards throws `store_failed`. */
  close(): Promise<void>;
}

/** @throws SkeinError `internal_error`: the caller must keep to the limits */
export function checkBatch({ changes, conditions = [] }: Batch): void {
  let bytes = 0;
  for (const { key } of conditions) checkKey(key);
  for (const change of changes) {
    checkKey(change.type === "deletePrefix" ? change.prefix : change.key);
    if (change.type !== "put") continue;
    if (change.value.length > valueBytesMax) {
      throw misuse(`a value has ${change.value.length} bytes, at most ${valueBytesMax} fit`);
    }
    bytes += change.value.length;
  }
  if (changes.length > batchChangesMax) throw misuse(`a batch has more than ${batchChangesMax} changes`);
  if (bytes > batchBytesMax) throw misuse(`a batch has more than ${batchBytesMax} bytes`);
}

export function checkScan({ prefix, after, limit }: Scan): void {
  checkKey(prefix);
  if (after !== undefined) checkKey(after);
  if (!Number.isInteger(limit) || limit < 1 || limit > scanLimitMax)
    throw misuse(`a scan of ${limit} records`);
}

export function checkKey(key: string): void {
  if (!/^[\x20-\x7e]+$/.test(key) || key.length > keyLengthMax) {
    throw misuse(`${JSON.stringify(key.slice(0, 80))} is no key`);
  }
}

/** The first key behind all that begin with a prefix. */
export function prefixEnd(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}

export function storeClosed(): SkeinError {
  return new SkeinError("store_failed", "The store is closed.");
}

function misuse(what: string): SkeinError {
  return new SkeinError("internal_error", `The store refuses: ${what}.`);
}
