/** The gateway's records in the home folder, and the broom that removes what has expired. */
import { closeSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Store } from "../store/port.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import type { Logger } from "../util/log.ts";

/** Expired records are never read; sweeping only gives their space back. */
const sweepIntervalMs = 30_000;
/** In one go: writers wait meanwhile, some milliseconds. */
const sweepRecordsMax = 1_000;

/** Another process may be about to end. */
const lockTimeoutMs = 1_000;

/** Opens the file and keeps it swept until it is closed. @throws SkeinError `store_failed`, also when another process has it */
export async function openGatewayStore(deps: { clock: Clock; log: Logger }, path: string): Promise<Store> {
  const unlock = lock(path);
  const store = await openSqliteStore(path, deps.clock).catch((error: unknown) => {
    unlock();
    throw error;
  });
  const stop = keepSwept(deps, store);
  return {
    get: (key) => store.get(key),
    scan: (scan) => store.scan(scan),
    commit: (batch) => store.commit(batch),
    sweep: (limit) => store.sweep(limit),
    async close() {
      stop();
      await store.close();
      unlock();
    },
  };
}

/**
 * Two processes with the same records would do the same batches, spend the same budget and sign with the same numbers. The
 * lock ends with its process, however that ends. Returns a function that ends it sooner. @throws SkeinError `store_failed`
 */
function lock(path: string): () => void {
  const file = `${path}.lock`;
  let database: DatabaseSync | null = null;
  try {
    closeSync(openSync(file, "a", 0o600));
    database = new DatabaseSync(file, { timeout: lockTimeoutMs });
    database.exec("BEGIN EXCLUSIVE");
    return () => database!.close();
  } catch (error) {
    database?.close();
    const isTaken = (error as { errcode?: number }).errcode === sqliteBusy;
    throw new SkeinError(
      "store_failed",
      isTaken ? `Another process of Skein uses ${path}.` : `${file} cannot be opened: ${String(error)}.`,
      {
        hint: isTaken
          ? "Stop that one, or give this one a home folder of its own (SKEIN_HOME)."
          : "Check that the folder exists and may be written to.",
        cause: error,
      },
    );
  }
}

/** SQLITE_BUSY, of SQLite's result codes. */
const sqliteBusy = 5;

/** Returns a function that stops it. */
export function keepSwept({ clock, log }: { clock: Clock; log: Logger }, store: Store): () => void {
  let cancel = (): void => undefined;
  const stopped = new AbortController();
  const sweep = async (): Promise<void> => {
    try {
      // As long as there is more, without standing in the way of those who write.
      while (!stopped.signal.aborted) if ((await store.sweep(sweepRecordsMax)) < sweepRecordsMax) break;
    } catch (error) {
      if (stopped.signal.aborted) return;
      log.warn({ reason: toSkeinError(error).message }, "expired records are not removed");
    }
    if (!stopped.signal.aborted) cancel = clock.schedule(sweepIntervalMs, () => void sweep());
  };
  void sweep();
  return () => {
    stopped.abort();
    cancel();
  };
}
