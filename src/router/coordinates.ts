/**
 * Network coordinates: Vivaldi with heights (Dabek, Cox, Kaashoek, Morris: "Vivaldi: A Decentralized Network
 * Coordinate System", SIGCOMM 2004), and gravity (Ledlie, Gardner, Seltzer: "Network Coordinates in the Wild", NSDI
 * 2007). Peers are masses between which springs stand, each as long as the round trip that was measured; where the
 * springs come to rest, distances tell round trips that nobody has measured. All lengths are milliseconds. Pure.
 */
import {
  coordinateDimensions,
  coordinateErrorMax,
  coordinateMaxMs,
  type NetworkCoordinate,
} from "../protocol/coordinate.ts";
import type { Random } from "../util/random.ts";

/** Share of a spring's tension that one measurement moves (c_c in the paper). */
const moveShare = 0.25;
/** Weight of one measurement in the error (c_e in the paper). */
const errorShare = 0.25;
/** Nobody is believed to be more exact than this. */
const errorMin = 0.05;
/** Of a height's own; from nothing it could not grow. */
const heightMinMs = 0.1;
const heightFirstMs = 2;
/** Differences below this are noise: errors are shares of at least so much. */
const resolutionMs = 1;
/** A point this far from the middle is pulled back by 1 ms with every measurement, one half as far by a quarter. */
const gravityMs = 1_000;
/** One measurement moves a coordinate by no more, whatever was measured and told: position and height together. */
export const moveMaxMs = 25;
/** Longer round trips say nothing of distance. */
export const roundTripMaxMs = 10_000;

/** Where everybody begins. */
export const firstCoordinate: NetworkCoordinate = {
  positionMs: Array.from({ length: coordinateDimensions }, () => 0),
  heightMs: heightFirstMs,
  error: coordinateErrorMax,
};

/** The round trip that two coordinates predict: the way between the points, and both heights. */
export function distanceMs(a: NetworkCoordinate, b: NetworkCoordinate): number {
  return lengthOf(between(a, b)) + (a.heightMs + b.heightMs);
}

/** How wrong a prediction is, as a share of what was measured. */
export function relativeError(predictedMs: number, measuredMs: number): number {
  return Math.abs(predictedMs - measuredMs) / Math.max(resolutionMs, measuredMs);
}

/**
 * The own coordinate after a measurement (Figure 3 of the Vivaldi paper, with the vectors of its section 5.4):
 *
 *     w = e / (e + e')                        e' is the peer's error
 *     e ← e + c_e · w · (|d − rtt| / rtt − e)
 *     x ← x + c_c · w · (rtt − d) · u         u: the unit vector from the peer
 *
 * @param roundTripMs above 0; beyond `roundTripMaxMs` it counts as that
 * @param random chooses a direction where both stand on one point
 */
export function moved(
  own: NetworkCoordinate,
  theirs: NetworkCoordinate,
  roundTripMs: number,
  random: Random,
): NetworkCoordinate {
  const measuredMs = Math.min(roundTripMaxMs, roundTripMs);
  const apartMs = distanceMs(own, theirs);
  // 1. How much it counts.
  const weight = own.error / (own.error + Math.max(errorMin, theirs.error));
  const wrong = Math.min(coordinateErrorMax, relativeError(apartMs, measuredMs));
  const error = within(errorMin, own.error + errorShare * weight * (wrong - own.error), coordinateErrorMax);
  // 2. The spring's pull.
  const pullMs = within(-moveMaxMs, moveShare * weight * (measuredMs - apartMs), moveMaxMs);
  const way = between(own, theirs);
  const wayMs = lengthOf(way);
  const isSamePoint = wayMs < 1e-6;
  const positionShare = isSamePoint ? Number(pullMs > 0) : wayMs / apartMs;
  const direction = isSamePoint ? anyDirection(random) : way.map((x) => x / wayMs);
  const pulled = own.positionMs.map((x, i) => x + pullMs * positionShare * direction[i]!);
  const heightMs = own.heightMs + pullMs * (1 - positionShare);
  // 3. Gravity, lest all of them drift away together.
  const fromMiddleMs = lengthOf(pulled);
  const keep = 1 - Math.min(moveMaxMs, (fromMiddleMs / gravityMs) ** 2) / Math.max(moveMaxMs, fromMiddleMs);
  return {
    positionMs: pulled.map((x) => within(-coordinateMaxMs, x * keep, coordinateMaxMs)),
    heightMs: within(heightMinMs, heightMs, coordinateMaxMs),
    error,
  };
}

/** From b to a. */
function between(a: NetworkCoordinate, b: NetworkCoordinate): number[] {
  return a.positionMs.map((x, i) => x - b.positionMs[i]!);
}

function lengthOf(vector: readonly number[]): number {
  return Math.hypot(...vector);
}

function anyDirection(random: Random): number[] {
  for (;;) {
    const vector = firstCoordinate.positionMs.map(() => 2 * random.next() - 1);
    const length = lengthOf(vector);
    // Within the sphere, so that no corner is preferred.
    if (length > 0.1 && length <= 1) return vector.map((x) => x / length);
  }
}

function within(min: number, value: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}
