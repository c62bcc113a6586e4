import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bigPhase, bigSine } from "./big.suite.ts";
import { cosineOf, phaseOf, sineOf } from "./rotation.ts";
import { quarterSineTable } from "./tables.ts";

const phases = fc.oneof(
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  fc
    .tuple(fc.integer({ min: 0, max: 4_095 }), fc.integer({ min: -1, max: 1 }))
    .map(([entry, off]) => (entry * 2 ** 20 + off + 2 ** 32) % 2 ** 32),
);

test("phases are turn · position, modulo a turn", () => {
  const turns = fc.oneof(
    fc.constantFrom(0, 1, 2 ** 24 - 1, 2 ** 24, 2 ** 47),
    fc.integer({ min: 0, max: 2 ** 47 }),
  );
  fc.assert(
    // Positions far beyond any context: products of limbs have room for 2^28.
    fc.property(turns, fc.integer({ min: 0, max: 2 ** 28 }), (turn, position) =>
      assert.equal(BigInt(phaseOf(turn, position)), bigPhase(BigInt(turn), BigInt(position))),
    ),
    { numRuns: 3_000 },
  );
});

test("sines are the table's, interpolated, and within half a unit and a little of the true ones", () => {
  fc.assert(
    fc.property(phases, (phase) => {
      const sine = sineOf(phase);
      assert.equal(BigInt(sine), bigSine(BigInt(phase), quarterSineTable));
      assert.ok(!Object.is(sine, -0));
      const angle = (phase / 2 ** 32) * 2 * Math.PI;
      assert.ok(Math.abs(sine - 2 ** 15 * Math.sin(angle)) <= 0.511, `${phase}`);
      assert.ok(Math.abs(cosineOf(phase) - 2 ** 15 * Math.cos(angle)) <= 0.511, `${phase}`);
    }),
    { numRuns: 5_000 },
  );
  assert.deepEqual(
    [0, 2 ** 30, 2 ** 31, 3 * 2 ** 30].flatMap((phase) => [sineOf(phase), cosineOf(phase)]),
    [0, 2 ** 15, 2 ** 15, 0, 0, -(2 ** 15), -(2 ** 15), 0],
  );
});
