import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Allowed, marginOf, uniformOf } from "./draw.ts";

test("uniform numbers are those of C++", () => {
  // std::mt19937 rng(seed); std::uniform_real_distribution<double>(0, 1)(rng), with libstdc++ and 17 digits.
  const expected = [
    [5489, 0.1354770042967805],
    [0, 0.59284461651668263],
    [7, 0.22733907496470684],
    [4294967294, 0.10184899170898529],
  ] as const;
  for (const [seed, value] of expected) assert.equal(uniformOf(seed), value);
});

const logits = fc.array(fc.double({ min: -8, max: 8, noNaN: true }), { minLength: 1, maxLength: 12 });
const uniform = fc.double({ min: 1e-6, max: 1 - 1e-6, noNaN: true });

function ordered(values: readonly number[], isSorted: boolean): Allowed[] {
  const allowed = values.map((logit, id) => ({ id, logit }));
  return isSorted ? allowed.sort((a, b) => b.logit - a.logit || a.id - b.id) : allowed;
}

function drawn(allowed: readonly Allowed[], u: number): number {
  const weights = allowed.map(({ logit }) => Math.exp(logit));
  const target = u * weights.reduce((a, b) => a + b, 0);
  let sum = 0;
  for (const [i, weight] of weights.entries()) if ((sum += weight) >= target) return allowed[i]!.id;
  return allowed.at(-1)!.id;
}

test("the drawn token has margin 0; all others of the allowed a positive, finite one", () => {
  fc.assert(
    fc.property(logits, uniform, fc.boolean(), (values, u, isSorted) => {
      const allowed = ordered(values, isSorted);
      const chosen = drawn(allowed, u);
      for (const { id } of allowed) {
        const margin = marginOf(allowed, id, u, isSorted);
        assert.ok(Number.isFinite(margin));
        // At the very edge of an interval rounding decides.
        if (id === chosen) assert.ok(margin < 1e-9);
        else assert.ok(margin > -1e-9);
      }
      assert.equal(marginOf(allowed, 99, u, isSorted), Number.POSITIVE_INFINITY);
    }),
  );
});

test("whatever errors within ε give, its margin is at most 2ε", () => {
  const errors = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 12, maxLength: 12 });
  const epsilon = fc.double({ min: 0.001, max: 2, noNaN: true });
  fc.assert(
    fc.property(logits, uniform, errors, epsilon, fc.boolean(), (values, u, parts, e, isSorted) => {
      const wrong = ordered(
        values.map((value, i) => value + e * parts[i]!),
        isSorted,
      );
      const margin = marginOf(ordered(values, isSorted), drawn(wrong, u), u, isSorted);
      assert.ok(margin <= 2 * e + 1e-5, `${margin} for errors of ${e}`);
    }),
    { numRuns: 2_000 },
  );
});

test("in the order of ids the margin is exact: errors of a little more do give the token", () => {
  fc.assert(
    fc.property(logits, uniform, fc.nat(), (values, u, which) => {
      const allowed = ordered(values, false);
      const claimed = which % values.length;
      const margin = marginOf(allowed, claimed, u, false);
      fc.pre(margin > 0);
      const e = margin / 2 + 1e-6;
      const isAfter = drawn(allowed, u) > claimed;
      // The token and everything on its side of the draw up, the rest down, or the other way round.
      const pushed = values.map((value, id) => value + ((isAfter ? id <= claimed : id >= claimed) ? e : -e));
      assert.equal(drawn(ordered(pushed, false), u), claimed);
    }),
  );
});

test("greedy: the distance to the best; near ties of the sorted order cost next to nothing", () => {
  const allowed = ordered([2, 1.5, -3], true);
  assert.equal(marginOf(allowed, 0, null, true), 0);
  assert.equal(marginOf(allowed, 1, null, true), 0.5);
  // Two equally likely tokens: rounding decides which comes first, and with it what a small number draws.
  const tied = ordered([1, 1 - 1e-4, -5], true);
  assert.ok(marginOf(tied, 1, 0.1, true) <= 2e-4);
  assert.ok(marginOf(tied, 2, 0.1, true) > 1);
});
