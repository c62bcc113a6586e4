/** How well logits predict given tokens, and how far two engines' logits are apart. */
import { seededRandom } from "../../src/util/random.ts";
import type { EvalRow } from "./eval-text.ts";

type Logits = Float32Array | Float64Array;

/** Sums over the scored positions of one row. */
export interface RowComparison {
  readonly positions: number;
  /** Negative log-likelihoods in nats. */
  readonly referenceLoss: number;
  readonly loss: number;
  /** Kullback–Leibler divergence of the reference's distribution from the other one, in nats. */
  readonly divergence: number;
  /** Positions where both find the same token most likely. */
  readonly agreements: number;
}

/** A value with the 95 % interval of its bootstrap over rows. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export interface Comparison {
  readonly rows: number;
  readonly positions: number;
  readonly referencePerplexity: Estimate;
  readonly perplexity: Estimate;
  /** Of the perplexities; narrower than theirs, because rows are paired. */
  readonly perplexityRatio: Estimate;
  readonly divergence: Estimate;
  readonly agreement: Estimate;
}

/** Log-probability of each given next token: one less than tokens. */
export function logProbabilities(tokenIds: readonly number[], logits: Logits): Float64Array {
  const vocabularySize = logits.length / tokenIds.length;
  return Float64Array.from({ length: tokenIds.length - 1 }, (_, position) => {
    const row = rowAt(logits, position, vocabularySize);
    return row[tokenIds[position + 1]!]! - logTotalOf(row);
  });
}

export function compareRow(row: EvalRow, reference: Logits, logits: Logits): RowComparison {
  if (reference.length !== logits.length) throw new RangeError("the logits differ in number");
  const vocabularySize = logits.length / row.tokenIds.length;
  const sums = { positions: row.scored.length, referenceLoss: 0, loss: 0, divergence: 0, agreements: 0 };
  for (const position of row.scored) {
    const p = rowAt(reference, position, vocabularySize);
    const q = rowAt(logits, position, vocabularySize);
    const next = row.tokenIds[position + 1]!;
    const totalP = logTotalOf(p);
    const totalQ = logTotalOf(q);
    sums.referenceLoss += totalP - p[next]!;
    sums.loss += totalQ - q[next]!;
    for (let token = 0; token < vocabularySize; token++) {
      const logP = p[token]! - totalP;
      sums.divergence += Math.exp(logP) * (logP - (q[token]! - totalQ));
    }
    if (likeliest(p) === likeliest(q)) sums.agreements += 1;
  }
  return sums;
}

/** Enough for intervals whose ends hardly move with the seed. */
const resamples = 2_000;

export function summarize(rows: readonly RowComparison[], seed = 1): Comparison {
  const estimate = (measure: (sums: RowComparison) => number): Estimate => bootstrap(rows, measure, seed);
  return {
    rows: rows.length,
    positions: sumOf(rows).positions,
    referencePerplexity: estimate((sums) => Math.exp(sums.referenceLoss / sums.positions)),
    perplexity: estimate((sums) => Math.exp(sums.loss / sums.positions)),
    perplexityRatio: estimate((sums) => Math.exp((sums.loss - sums.referenceLoss) / sums.positions)),
    divergence: estimate((sums) => sums.divergence / sums.positions),
    agreement: estimate((sums) => sums.agreements / sums.positions),
  };
}

/** Rows are drawn, not positions: those of a row depend on each other. */
function bootstrap(
  rows: readonly RowComparison[],
  measure: (sums: RowComparison) => number,
  seed: number,
): Estimate {
  const random = seededRandom(seed);
  const values = Array.from({ length: resamples }, () =>
    measure(sumOf(rows.map(() => rows[Math.floor(random.next() * rows.length)]!))),
  ).sort((a, b) => a - b);
  return {
    value: measure(sumOf(rows)),
    low: values[Math.floor(resamples * 0.025)]!,
    high: values[Math.ceil(resamples * 0.975) - 1]!,
  };
}

function sumOf(rows: readonly RowComparison[]): RowComparison {
  const sums = { positions: 0, referenceLoss: 0, loss: 0, divergence: 0, agreements: 0 };
  for (const row of rows) {
    sums.positions += row.positions;
    sums.referenceLoss += row.referenceLoss;
    sums.loss += row.loss;
    sums.divergence += row.divergence;
    sums.agreements += row.agreements;
  }
  return sums;
}

function rowAt(logits: Logits, position: number, vocabularySize: number): Logits {
  return logits.subarray(position * vocabularySize, (position + 1) * vocabularySize);
}

/** Logarithm of the sum of exponentials. */
function logTotalOf(row: Logits): number {
  let largest = -Infinity;
  for (const value of row) largest = Math.max(largest, value);
  let total = 0;
  for (const value of row) total += Math.exp(value - largest);
  return largest + Math.log(total);
}

/** The first of equals. */
function likeliest(row: Logits): number {
  let best = 0;
  for (let token = 1; token < row.length; token++) if (row[token]! > row[best]!) best = token;
  return best;
}
