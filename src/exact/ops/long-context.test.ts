/** Attention far beyond what the demo models can show: 32,768 positions, most of the weight on one of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../../util/random.ts";
import { keyBits, qkvFraction, queryBits } from "../model/model.ts";
import { type Block, toBlock } from "./integers.ts";
import { attend } from "./operations.ts";

const positions = 32_768;
const headDim = 64;
/**
 * Errors in shares of the largest output, by the share of the sink; 15-bit or unrounded weights lose 0.1 to 1 here. At
 * 0.99 all other weights are about 5 of 2^24.
 */
const cases = [
  { share: 1 / positions, errorMax: 1e-4 },
  { share: 0.5, errorMax: 5e-4 },
  { share: 0.9, errorMax: 1e-3 },
  { share: 0.99, errorMax: 5e-3 },
];

/** One sink at position 0 with weight `share` and a value near zero, as language models have them; the rest is diffuse. */
function makeCase(share: number, seed: number): { query: number[]; keys: number[][]; values: number[][] } {
  const random = seededRandom(seed);
  const spread = (size: number): number => (random.next() - 0.5) * 2 * size;
  const query = Array.from({ length: headDim }, () => spread(1));
  const length = Math.sqrt(query.reduce((sum, x) => sum + x * x, 0));
  // Scores around 0 for all but the sink, whose logarithm (base 2) makes up for their number.
  const sinkScore = Math.log2((share / (1 - share)) * positions);
  const toward = (score: number): number[] => query.map((x) => (x / length ** 2) * score);
  const keys = Array.from({ length: positions }, (_, j) => toward(j === 0 ? sinkScore : spread(1)));
  const values = keys.map((_, j) =>
    query.map((_unused, c) => (j === 0 ? spread(0.01) : 1 + Math.cos(c) + spread(1))),
  );
  return { query, keys, values };
}

function fixed(values: readonly number[]): number[] {
  return values.map((value) => Math.round(value * 2 ** qkvFraction));
}

const valueOf = ({ mantissas, exponent }: Block): number[] => Array.from(mantissas, (q) => q * 2 ** exponent);

/** Softmax of base 2 in doubles, on the numbers that the blocks stand for. */
function attendInDoubles(query: number[], keys: readonly Block[], values: readonly Block[]): number[] {
  const scores = keys.map((key) => valueOf(key).reduce((sum, x, i) => sum + x * query[i]!, 0));
  const best = scores.reduce((a, b) => Math.max(a, b));
  const weights = scores.map((score) => 2 ** (score - best));
  const total = weights.reduce((a, b) => a + b);
  const sums = query.map(() => 0);
  for (const [j, value] of values.entries()) {
    for (const [i, x] of valueOf(value).entries()) sums[i]! += x * weights[j]!;
  }
  return sums.map((sum) => sum / total);
}

for (const { share, errorMax } of cases) {
  test(`attention over ${positions} positions, ${share.toFixed(2)} of it on one`, () => {
    const { query, keys, values } = makeCase(share, 7);
    const queryBlock = toBlock(fixed(query), -qkvFraction, queryBits);
    const keyBlocks = keys.map((key) => toBlock(fixed(key), -qkvFraction, keyBits));
    const valueBlocks = values.map((value) => toBlock(fixed(value), -qkvFraction, keyBits));
    const exact = Array.from(attend(queryBlock, keyBlocks, valueBlocks), (x) => x / 2 ** qkvFraction);
    const float = attendInDoubles(valueOf(queryBlock), keyBlocks, valueBlocks);
    const largest = Math.max(...float.map(Math.abs));
    const error = Math.max(...exact.map((x, i) => Math.abs(x - float[i]!))) / largest;
    assert.ok(error < errorMax, `relative error ${error}`);
  });
}
