import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  coordinateDimensions,
  coordinateErrorMax,
  coordinateMaxMs,
  type NetworkCoordinate,
} from "../protocol/coordinate.ts";
import { coordinateSchema } from "../protocol/schemas.ts";
import { type Random, seededRandom } from "../util/random.ts";
import { distanceMs, firstCoordinate, moved, moveMaxMs, relativeError } from "./coordinates.ts";

const bounded = (min: number, max: number): fc.Arbitrary<number> => fc.double({ min, max, noNaN: true });
/** Whatever a peer can tell: what the schema lets in. */
const anyCoordinate: fc.Arbitrary<NetworkCoordinate> = fc.record({
  positionMs: fc.array(bounded(-coordinateMaxMs, coordinateMaxMs), {
    minLength: coordinateDimensions,
    maxLength: coordinateDimensions,
  }),
  heightMs: bounded(0, coordinateMaxMs),
  error: bounded(0, coordinateErrorMax),
});
const anyRoundTrip = fc.oneof(bounded(0, 1e9), fc.constantFrom(Number.MIN_VALUE, 1e-9, 0, Number.MAX_VALUE));

test("whatever is told and measured, a coordinate stays a valid one", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(anyCoordinate, anyRoundTrip), { maxLength: 50 }),
      fc.nat(),
      (samples, seed) => {
        let own = firstCoordinate;
        const random = seededRandom(seed);
        for (const [theirs, roundTripMs] of samples) own = moved(own, theirs, roundTripMs, random);
        assert.ok(coordinateSchema.safeParse(own).success, JSON.stringify(own));
      },
    ),
  );
});

test("one measurement moves a coordinate by no more than the bound, gravity aside", () => {
  fc.assert(
    fc.property(anyCoordinate, anyCoordinate, anyRoundTrip, (own, theirs, roundTripMs) => {
      // Peers' own coordinates have some height.
      const from = { ...own, heightMs: Math.max(1, own.heightMs) };
      const to = moved(from, theirs, roundTripMs, seededRandom(1));
      const wayMs = Math.hypot(...to.positionMs.map((x, i) => x - from.positionMs[i]!));
      const pulledMs = Math.hypot(...from.positionMs) + moveMaxMs;
      const gravity = Math.min(moveMaxMs, (pulledMs / 1_000) ** 2);
      assert.ok(wayMs <= moveMaxMs + gravity + 1e-6, `${wayMs} ms`);
      assert.ok(Math.abs(to.heightMs - from.heightMs) <= moveMaxMs + 1e-6);
    }),
  );
});

test("distances are symmetric, and never less than both heights", () => {
  fc.assert(
    fc.property(anyCoordinate, anyCoordinate, (a, b) => {
      assert.equal(distanceMs(a, b), distanceMs(b, a));
      assert.ok(distanceMs(a, b) >= a.heightMs + b.heightMs);
    }),
  );
});

/** Points in a plane with lines of their own: a world that coordinates can tell exactly. */
function embeddedWorld(count: number, random: Random): { roundTripMs: (a: number, b: number) => number } {
  const points = Array.from({ length: count }, () => [200 * random.next(), 200 * random.next()] as const);
  const lines = points.map(() => 15 * random.next());
  return {
    roundTripMs: (a, b) =>
      1 + Math.hypot(points[a]![0] - points[b]![0], points[a]![1] - points[b]![1]) + lines[a]! + lines[b]!,
  };
}

function medianError(count: number, rounds: number, random: Random): number {
  const { roundTripMs } = embeddedWorld(count, random);
  const own = Array.from({ length: count }, () => firstCoordinate);
  for (let i = 0; i < rounds * count; i++) {
    const [a, b] = [i % count, Math.floor(random.next() * count)];
    if (a !== b) own[a] = moved(own[a]!, own[b]!, roundTripMs(a, b), random);
  }
  const errors: number[] = [];
  for (let a = 0; a < count; a++) {
    for (let b = 0; b < a; b++) {
      errors.push(relativeError(distanceMs(own[a]!, own[b]!), roundTripMs(a, b)));
    }
  }
  return errors.toSorted((a, b) => a - b)[Math.floor(errors.length / 2)]!;
}

test("in a world that can be embedded, round trips come out, whatever the seed", () => {
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const error = medianError(24, 400, seededRandom(seed));
      assert.ok(error < 0.05, `median relative error ${error}`);
    }),
    { numRuns: 20 },
  );
  assert.ok(medianError(24, 1, seededRandom(1)) > 0.3, "nothing was learnt: the test says something");
});

test("the same seed gives the same coordinates", () => {
  assert.equal(medianError(10, 20, seededRandom(7)), medianError(10, 20, seededRandom(7)));
});
