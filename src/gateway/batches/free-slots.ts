import { slotsFor } from "../../router/plan.ts";
import type { Clock } from "../../util/clock.ts";
import type { Directory } from "../directory/directory.ts";
import { matches } from "../directory/model-name.ts";

/** Slots for batches that nobody uses now, of all providers that can serve a model; more than `enough` are not counted. */
export function freeSlots(
  { directory, clock }: { directory: Directory; clock: Clock },
  name: string,
  enough: number,
): number {
  const { policy } = directory;
  const nowMs = clock.monotonicMs();
  let free = 0;
  for (const entry of directory.entries) {
    if (free >= enough) break;
    for (const offer of entry.models) {
      if (!matches(offer, name) || !entry.isAvailable(offer.modelId)) continue;
      free += entry.freeForBatch(slotsFor(offer.parallelMax, false, policy.headroom), policy, nowMs);
    }
  }
  return free;
}
