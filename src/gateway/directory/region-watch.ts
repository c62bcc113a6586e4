import type { RoundTripFloor } from "../../network/session.ts";
import { doubtfulRegions, type RegionDoubt, type RegionPolicy } from "../../router/regions.ts";
import type { JudgedRegion, ProviderEntry } from "./provider-entry.ts";

/** Providers that left whose round trips are remembered; the one that left first is forgotten first. */
const leftMax = 10_000;

/** Compares the regions that providers declare with what was measured of them. */
export class RegionWatch {
  /** Where this gateway is; empty: unknown. */
  readonly #gatewayRegion: string;
  readonly #policy: RegionPolicy;
  /** Of earlier sessions: whoever leaves and comes back again and again is judged all the same. */
  readonly #left = new Map<
    string,
    { readonly floor: RoundTripFloor; readonly judged: JudgedRegion | null }
  >();

  constructor(gatewayRegion: string, policy: RegionPolicy) {
    this.#gatewayRegion = gatewayRegion;
    this.#policy = policy;
  }

  look(entries: readonly ProviderEntry[]): void {
    const located = entries.map(({ session }) => {
      const floor = this.#floorOf(session);
      const isMeasured = floor !== null && floor.samples >= this.#policy.samplesMin;
      return {
        providerId: session.providerId,
        region: session.offer?.region ?? "",
        floorMs: isMeasured ? floor.ms : null,
      };
    });
    const doubts = doubtfulRegions(located, this.#gatewayRegion, this.#policy);
    for (const [i, entry] of entries.entries()) {
      const { providerId, region, floorMs } = located[i]!;
      if (entry.session.offer !== null && floorMs !== null) {
        entry.judged = { region, doubt: doubts.get(providerId) ?? null };
      }
    }
  }

  /** What was found before it left holds until the next look. */
  joined(entry: ProviderEntry): void {
    entry.judged = this.#left.get(entry.session.providerId)?.judged ?? null;
  }

  /** Its session has ended. */
  left({ session, judged }: ProviderEntry): void {
    const floor = this.#floorOf(session);
    if (floor === null) return;
    this.#left.delete(session.providerId);
    this.#left.set(session.providerId, { floor, judged });
    if (this.#left.size > leftMax) this.#left.delete(this.#left.keys().next().value!);
  }

  /** Of this session, and of those before it until this one alone says enough. */
  #floorOf({ providerId, roundTripFloor }: ProviderEntry["session"]): RoundTripFloor | null {
    const own = roundTripFloor ?? null;
    const earlier = this.#left.get(providerId)?.floor;
    if (earlier === undefined || (own !== null && own.samples >= this.#policy.samplesMin)) return own;
    if (own === null) return earlier;
    return { ms: Math.min(own.ms, earlier.ms), samples: own.samples + earlier.samples };
  }
}

/** For people. */
export function doubtText({ region, measuredMs, usualMs, providers }: RegionDoubt): string {
  const away = `its shortest round trip is ${Math.round(measuredMs)} ms`;
  return usualMs === null
    ? `it declares '${region}', where this gateway is, but ${away}`
    : `it declares '${region}', but ${away}; ${Math.round(usualMs)} ms are usual for the ${providers} providers that do`;
}
