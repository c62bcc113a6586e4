import { doubtfulRegions, type RegionDoubt, type RegionPolicy } from "../../router/regions.ts";
import type { ProviderEntry } from "./provider-entry.ts";

/** Compares all declared regions with what was measured. */
export function lookAtRegions(
  entries: readonly ProviderEntry[],
  gatewayRegion: string,
  policy: RegionPolicy,
): void {
  const located = entries.map(({ session }) => ({
    providerId: session.providerId,
    region: session.offer?.region ?? "",
    floorMs: session.roundTripFloorMs ?? null,
  }));
  const doubts = doubtfulRegions(located, gatewayRegion, policy);
  for (const entry of entries) entry.regionDoubt = doubts.get(entry.session.providerId) ?? null;
}

/** For people. */
export function doubtText({ region, measuredMs, usualMs, providers }: RegionDoubt): string {
  const away = `its shortest round trip is ${Math.round(measuredMs)} ms`;
  return usualMs === null
    ? `it declares '${region}', where this gateway is, but ${away}`
    : `it declares '${region}', but ${away}; ${Math.round(usualMs)} ms are usual for the ${providers} providers that do`;
}
