import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { logprobOf } from "./logprobs.ts";

const pieces = (id: number): Uint8Array => Uint8Array.of(id);

test("log probabilities are the softmax's, the most likely first, of equal ones the lowest id", () => {
  const logits = fc.array(fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 }), {
    minLength: 1,
    maxLength: 40,
  });
  const near = fc.array(fc.integer({ min: -30_000, max: 30_000 }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(fc.oneof(logits, near), fc.nat(), fc.nat(20), (values, any, count) => {
      const tokenId = any % values.length;
      const found = logprobOf(Int32Array.from(values), tokenId, count, pieces);
      const nats = values.map((value) => value / 4_096);
      const best = Math.max(...nats);
      const all = Math.log(nats.reduce((sum, value) => sum + Math.exp(value - best), 0)) + best;
      const order = values.map((_, id) => id).sort((a, b) => values[b]! - values[a]! || a - b);
      const isNear = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-6 * (1 + Math.abs(b));
      assert.ok(isNear(found.logprob, nats[tokenId]! - all));
      assert.deepEqual(found.bytes, Uint8Array.of(tokenId));
      assert.deepEqual(
        found.top.map(({ bytes }) => bytes[0]),
        order.slice(0, count),
      );
      found.top.forEach(({ logprob }, i) => assert.ok(isNear(logprob, nats[order[i]!]! - all)));
    }),
    { numRuns: 50 },
  );
});
