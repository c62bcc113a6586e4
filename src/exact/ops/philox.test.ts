import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bigPhilox } from "./big.suite.ts";
import { philox } from "./philox.ts";

type Four = [number, number, number, number];

/** Salmon et al., Random123 1.14, tests/kat_vectors: philox4x32 with ten rounds. */
const knownAnswers: readonly { counter: Four; key: [number, number]; draws: Four }[] = [
  { counter: [0, 0, 0, 0], key: [0, 0], draws: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    draws: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    draws: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
];

test("gives the published answers", () => {
  for (const { counter, key, draws } of knownAnswers) assert.deepEqual(philox(counter, key), draws);
});

test("is the generator of the paper for every counter and key", () => {
  const word = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(fc.tuple(word, word, word, word), fc.tuple(word, word), (counter, key) => {
      assert.deepEqual(philox(counter, key).map(BigInt), bigPhilox(counter.map(BigInt), key.map(BigInt)));
    }),
    { numRuns: 500 },
  );
});
