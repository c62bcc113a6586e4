/**
 * Whether providers can be where they say that they are. A round trip cannot be made shorter than the way, only longer
 * (the idea of constraint-based geolocation: Gueye, Ziviani, Crovella, Fdida 2006); so the shortest one of the latest is
 * compared with those of the others that declare the same region. Pure.
 */

export interface RegionPolicy {
  /**
   * Within this distance of the others nobody is doubted: the width of a continent (4,000 km, 100 km for a millisecond of
   * round trip, cables that are twice as long). Jitter is far below.
   */
  readonly marginMs: number;
  /** …and so many times their spread (median absolute deviation, scaled to a standard deviation). */
  readonly spreadWeight: number;
  /** Providers that must declare a region, the one in question included, before any is compared with the others. */
  readonly providersMin: number;
  /** Round trips of which the shortest says something. */
  readonly samplesMin: number;
  /** Whoever declares the gateway's own region is at most so far away: the margin, and two slow lines. */
  readonly ownMaxMs: number;
}

export const defaultRegionPolicy: RegionPolicy = {
  marginMs: 80,
  spreadWeight: 3,
  providersMin: 4,
  samplesMin: 8,
  ownMaxMs: 120,
};

/** A provider with the region that it declares, and its shortest round trip; null: too few were measured. */
export interface Located {
  readonly providerId: string;
  readonly region: string;
  readonly floorMs: number | null;
}

export interface RegionDoubt {
  /** The region that is doubted: the declared one, or its beginning. */
  readonly region: string;
  readonly measuredMs: number;
  /** What is usual there; null: the region is the gateway's own. */
  readonly usualMs: number | null;
  /** That declare the region. */
  readonly providers: number;
}

/** A normal distribution's standard deviation, in median absolute deviations. */
const deviationsPerSpread = 1.4826;
/** `eu-west-1`: a name with more parts is compared by its first ones, and as a whole. */
const levelsMax = 4;

/** Whether a declared region is the wished one, or within it: `eu` also means `eu-west`. */
export function isWithin(declared: string, wished: string): boolean {
  return declared === wished || declared.startsWith(`${wished}-`);
}

/**
 * Whose round trip contradicts its declared region, by provider id. In the gateway's own region nobody else is asked;
 * elsewhere the others are believed as long as they agree.
 *
 * @param gatewayRegion empty: unknown
 */
export function doubtfulRegions(
  providers: readonly Located[],
  gatewayRegion: string,
  policy: RegionPolicy = defaultRegionPolicy,
): Map<string, RegionDoubt> {
  const doubts = new Map<string, RegionDoubt>();
  // 1. All that declare a region or a part of it.
  const groups = new Map<string, { providerId: string; floorMs: number }[]>();
  for (const { providerId, region, floorMs } of providers) {
    if (floorMs === null || region === "") continue;
    if (gatewayRegion !== "" && isWithin(region, gatewayRegion)) {
      if (floorMs > policy.ownMaxMs) {
        doubts.set(providerId, { region: gatewayRegion, measuredMs: floorMs, usualMs: null, providers: 0 });
      }
      continue;
    }
    for (const level of levelsOf(region)) {
      const group = groups.get(level);
      if (group === undefined) groups.set(level, [{ providerId, floorMs }]);
      else group.push({ providerId, floorMs });
    }
  }
  // 2. Who differs from them.
  for (const [region, group] of groups) {
    if (group.length < policy.providersMin) continue;
    const usualMs = median(group.map(({ floorMs }) => floorMs));
    const spreadMs = median(group.map(({ floorMs }) => Math.abs(floorMs - usualMs)));
    const allowedMs = policy.marginMs + policy.spreadWeight * deviationsPerSpread * spreadMs;
    for (const { providerId, floorMs } of group) {
      if (Math.abs(floorMs - usualMs) <= allowedMs) continue;
      doubts.set(providerId, { region, measuredMs: floorMs, usualMs, providers: group.length });
    }
  }
  return doubts;
}

/** The region and what it lies in: `eu-west-1`, `eu-west`, `eu`. */
function levelsOf(region: string): Set<string> {
  const parts = region.split("-");
  const levels = parts.slice(0, levelsMax).map((_, i) => parts.slice(0, i + 1).join("-"));
  return new Set([...levels.filter((level) => level !== ""), region]);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
}
