/** The gateway's records in the home folder, and the broom that removes what has expired. */
import { openSqliteStore } from "../store/sqlite.ts";
import type { Store } from "../store/port.ts";
import type { Clock } from "../util/clock.ts";
import { toSkeinError } from "../util/errors.ts";
import type { Logger } from "../util/log.ts";

/** Expired records are never read; sweeping only gives their space back. */
const sweepIntervalMs = 30_000;
/** In one go: writers wait meanwhile, some milliseconds. */
const sweepRecordsMax = 1_000;

/** Opens the file and keeps it swept until it is closed. @throws SkeinError `store_failed` */
export async function openGatewayStore(deps: { clock: Clock; log: Logger }, path: string): Promise<Store> {
  const store = await openSqliteStore(path, deps.clock);
  const stop = keepSwept(deps, store);
  return {
    get: (key) => store.get(key),
    scan: (scan) => store.scan(scan),
    commit: (batch) => store.commit(batch),
    sweep: (limit) => store.sweep(limit),
    close() {
      stop();
      return store.close();
    },
  };
}

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
