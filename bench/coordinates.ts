/**
 * How well network coordinates predict round trips that nobody has measured: providers that joined some of the gateways, and
 * their distance to the others, in a synthetic world (great circles, detours, access lines, jitter). Rivals: the median of
 * what the gateway measured of its providers, and their mean in the declared region, with honest declarations and with
 * every fifth one wrong.
 */
import { distanceMs, relativeError } from "../src/router/coordinates.ts";
import { OwnWhereabouts } from "../src/router/whereabouts.ts";
import { type Random, seededRandom } from "../src/util/random.ts";
import { CoordinateWorld, regionNames } from "./lib/coordinate-world.ts";
import { quantile } from "./lib/routing-load.ts";

const isQuick = process.argv.includes("--quick");
const seeds = isQuick ? 3 : 20;
const providers = 100;
/** One a second. */
const heartbeats = 120;
/** Gateways there are, and how many of them each provider joined. */
const cases = [
  [4, 3],
  [8, 4],
  [8, 6],
  [16, 8],
] as const;
const liesShare = 0.2;

type Errors = Record<"coordinates" | "median" | "region" | "regionWithLies", number[]>;

/** Peers 0 to gateways − 1 are gateways, the others providers. */
interface Network {
  readonly world: CoordinateWorld;
  readonly own: readonly OwnWhereabouts[];
  readonly joined: readonly ReadonlySet<number>[];
  readonly declared: readonly string[];
}

function settle(gateways: number, joins: number, random: Random): Network {
  const world = new CoordinateWorld(gateways + providers, random);
  const own = world.peers.map(() => new OwnWhereabouts({ random }));
  const joined = Array.from({ length: providers }, () => someOf(gateways, joins, random));
  const declared = world.peers.map(({ region }) =>
    random.next() < liesShare ? regionNames[Math.floor(random.next() * regionNames.length)]! : region,
  );
  for (let beat = 0; beat < heartbeats; beat++) {
    for (const [i, gatewaysOf] of joined.entries()) {
      const p = gateways + i;
      for (const g of gatewaysOf) {
        const [there, here] = [own[p]!, own[g]!];
        const [told, answered] = [there.coordinate, here.coordinate];
        there.learn(`${g}`, world.sampleMs(p, g), answered);
        here.learn(`${p}`, world.sampleMs(p, g), told);
      }
    }
  }
  return { world, own, joined, declared };
}

function someOf(count: number, chosen: number, random: Random): Set<number> {
  const left = Array.from({ length: count }, (_, i) => i);
  return new Set(
    Array.from({ length: chosen }, () => left.splice(Math.floor(random.next() * left.length), 1)[0]!),
  );
}

/** Of every provider at every gateway that it did not join. */
function measure({ world, own, joined, declared }: Network, gateways: number, errors: Errors): void {
  for (let g = 0; g < gateways; g++) {
    const known = joined.flatMap((gatewaysOf, i) => (gatewaysOf.has(g) ? [gateways + i] : []));
    const knownMs = known.map((p) => world.roundTripMs(p, g));
    const medianMs = quantile(knownMs, 0.5);
    const meanOf = (isSame: (p: number) => boolean): number => {
      const same = knownMs.filter((_, i) => isSame(known[i]!));
      return same.length === 0 ? medianMs : same.reduce((sum, ms) => sum + ms, 0) / same.length;
    };
    for (const [i, gatewaysOf] of joined.entries()) {
      if (gatewaysOf.has(g)) continue;
      const p = gateways + i;
      const realMs = world.roundTripMs(p, g);
      const { region } = world.peers[p]!;
      const tell = (rival: keyof Errors, ms: number): void =>
        void errors[rival].push(relativeError(ms, realMs));
      tell("coordinates", distanceMs(own[g]!.coordinate, own[p]!.coordinate));
      tell("median", medianMs);
      tell(
        "region",
        meanOf((other) => world.peers[other]!.region === region),
      );
      tell(
        "regionWithLies",
        meanOf((other) => declared[other] === declared[p]),
      );
    }
  }
}

const result: Record<string, number | string> = {};
const round = (value: number): number => Math.round(value * 1000) / 1000;
for (const [gateways, joins] of cases) {
  const errors: Errors = { coordinates: [], median: [], region: [], regionWithLies: [] };
  for (let seed = 0; seed < seeds; seed++) {
    measure(settle(gateways, joins, seededRandom(seed)), gateways, errors);
  }
  console.log(
    `${gateways} gateways, of which each of ${providers} providers joined ${joins}; relative error at the others:`,
  );
  for (const [rival, values] of Object.entries(errors)) {
    const [p50, p90] = [round(quantile(values, 0.5)), round(quantile(values, 0.9))];
    console.log(`  ${rival.padEnd(15)} ${p50} (p50), ${p90} (p90)`);
    result[`${rival}P50At${joins}Of${gateways}`] = p50;
    result[`${rival}P90At${joins}Of${gateways}`] = p90;
  }
  const ratio = round(quantile(errors.median, 0.5) / quantile(errors.coordinates, 0.5));
  result[`medianToCoordinatesP50At${joins}Of${gateways}`] = ratio;
}
console.log(
  JSON.stringify({ ...result, seeds, providers, heartbeats, rival: "median, mean of the declared region" }),
);
