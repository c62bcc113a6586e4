import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compareRow, logProbabilities, summarize } from "./perplexity.ts";

const row = { id: "r", tokenIds: [0, 1, 2], scored: [0, 1] };
const close = (a: number, b: number): void => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);

test("a uniform guess has the perplexity of the vocabulary", () => {
  const logits = new Float64Array(3 * 4).fill(7);
  assert.deepEqual(
    [...logProbabilities(row.tokenIds, logits)].map((x) => Math.exp(x).toFixed(12)),
    ["0.250000000000", "0.250000000000"],
  );
  const { perplexity, perplexityRatio, divergence, agreement, positions } = summarize([
    compareRow(row, logits, logits),
  ]);
  close(perplexity.value, 4);
  close(perplexityRatio.value, 1);
  close(divergence.value, 0);
  assert.equal(agreement.value, 1);
  assert.equal(positions, 2);
});

test("divergence is the definition's", () => {
  const p = Float64Array.from([Math.log(0.5), Math.log(0.25), Math.log(0.25)]);
  const q = Float64Array.from([Math.log(0.25), Math.log(0.25), Math.log(0.5)]);
  const one = compareRow({ id: "r", tokenIds: [0], scored: [] }, p, q);
  assert.equal(one.positions, 0);
  const both = (logits: Float64Array): Float64Array => Float64Array.from([...logits, ...logits]);
  const compared = compareRow({ id: "r", tokenIds: [0, 1], scored: [0] }, both(p), both(q));
  close(compared.divergence, 0.5 * Math.log(2) - 0.25 * Math.log(2));
  assert.equal(compared.agreements, 0);
  close(compared.loss, Math.log(4));
});

test("a constant added to all logits changes nothing", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: -50, max: 50, noNaN: true }), { minLength: 12, maxLength: 12 }),
      fc.double({ min: -100, max: 100, noNaN: true }),
      (values, shift) => {
        const logits = Float64Array.from(values);
        const compared = compareRow(
          row,
          logits,
          logits.map((x) => x + shift),
        );
        assert.ok(Math.abs(compared.divergence) < 1e-9);
        assert.ok(Math.abs(compared.loss - compared.referenceLoss) < 1e-9);
      },
    ),
  );
});

test("intervals hold the value, shrink with more rows and depend on the seed alone", () => {
  const rows = Array.from({ length: 200 }, (_, i) => ({
    positions: 10,
    referenceLoss: 10 + (i % 7),
    loss: 11 + (i % 5),
    divergence: (i % 3) / 10,
    agreements: 8 + (i % 3),
  }));
  const [many, few] = [summarize(rows), summarize(rows.slice(0, 20))];
  for (const key of ["perplexity", "perplexityRatio", "divergence", "agreement"] as const) {
    const { value, low, high } = many[key];
    assert.ok(low < value && value < high, key);
    assert.ok(high - low < few[key].high - few[key].low, key);
  }
  assert.deepEqual(summarize(rows), many);
});
