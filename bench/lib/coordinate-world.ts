/** A synthetic internet: peers in cities, round trips by great circles, detours, access lines and jitter. */
import type { Random } from "../../src/util/random.ts";

interface Peer {
  readonly region: string;
  readonly latitude: number;
  readonly longitude: number;
  /** What its own line adds to every round trip. */
  readonly accessMs: number;
}

/** Cities by region: latitude and longitude in degrees. */
const regions: Readonly<Record<string, readonly (readonly [number, number])[]>> = {
  eu: [
    [52, 5],
    [50, 9],
    [48, 2],
    [53, -6],
    [59, 18],
    [40, -4],
    [52, 21],
  ],
  us: [
    [39, -77],
    [41, -74],
    [41, -88],
    [33, -97],
    [46, -119],
    [37, -122],
  ],
  ap: [
    [36, 140],
    [37, 127],
    [1, 104],
    [19, 73],
    [-34, 151],
  ],
  sa: [
    [-24, -47],
    [-33, -71],
    [5, -74],
  ],
};
export const regionNames: readonly string[] = Object.keys(regions);
const earthRadiusKm = 6_371;
/** Light in glass goes 200 km in a millisecond: a round trip of 1 ms for 100 km. */
const kmPerRoundTripMs = 100;
/** Cables do not follow great circles: so many times the way, and how much that differs from pair to pair. */
const detour = 1.5;
const detourSpread = 0.2;
const accessMeanMs = 6;
const jitterMeanMs = 2;
/** Now and then a packet waits somewhere. */
const spikeChance = 0.03;
const spikeMeanMs = 150;

const exponential = (random: Random, mean: number): number => -mean * Math.log(1 - random.next());

export class CoordinateWorld {
  readonly peers: readonly Peer[];
  readonly #random: Random;
  readonly #detours = new Map<string, number>();

  constructor(count: number, random: Random) {
    this.#random = random;
    const names = regionNames;
    this.peers = Array.from({ length: count }, () => {
      const region = names[Math.floor(random.next() * names.length)]!;
      const cities = regions[region]!;
      const [latitude, longitude] = cities[Math.floor(random.next() * cities.length)]!;
      return {
        region,
        latitude: latitude + 2 * random.next() - 1,
        longitude: longitude + 2 * random.next() - 1,
        accessMs: exponential(random, accessMeanMs),
      };
    });
  }

  /** Without jitter. */
  roundTripMs(a: number, b: number): number {
    const [one, other] = [this.peers[a]!, this.peers[b]!];
    const wayMs = (this.#detour(a, b) * distanceKm(one, other)) / kmPerRoundTripMs;
    return wayMs + one.accessMs + other.accessMs;
  }

  /** One measurement. */
  sampleMs(a: number, b: number): number {
    const random = this.#random;
    const spikeMs = random.next() < spikeChance ? exponential(random, spikeMeanMs) : 0;
    return this.roundTripMs(a, b) + exponential(random, jitterMeanMs) + spikeMs;
  }

  #detour(a: number, b: number): number {
    const key = a < b ? `${a} ${b}` : `${b} ${a}`;
    const known = this.#detours.get(key) ?? detour * (1 + detourSpread * (2 * this.#random.next() - 1));
    this.#detours.set(key, known);
    return known;
  }
}

/** Haversine formula. */
function distanceKm(a: Peer, b: Peer): number {
  const radians = (degrees: number): number => (degrees * Math.PI) / 180;
  const half = (x: number, y: number): number => Math.sin(radians(x - y) / 2) ** 2;
  const h =
    half(a.latitude, b.latitude) +
    Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * half(a.longitude, b.longitude);
  return 2 * earthRadiusKm * Math.asin(Math.min(1, Math.sqrt(h)));
}
