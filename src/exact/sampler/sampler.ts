/**
 * Choosing the next token with integers only (docs/EXACT.md, "Sampler"). A draw depends on key, position and token id
 * alone, so that any executor continues any answer at any token.
 */
import { roundShift, saturate } from "../ops/integers.ts";
import { exp2Of } from "../ops/operations.ts";
import { philox, type PhiloxKey } from "../ops/philox.ts";
import { gumbelEntries, gumbelTable, gumbelTailTable } from "../ops/tables.ts";

/** Everything that a choice depends on besides logits and earlier tokens, all of it integers. */
export interface SamplerParameters {
  /** round(2^16 / temperature), at least 1; 0: always the most likely token. */
  readonly inverseTemperature: number;
  /** Tokens kept at most; 0: all. */
  readonly topK: number;
  /** round(2^16 · p); 2^16: all. */
  readonly topP: number;
  /** round(2^16 · p); 0: all. */
  readonly minP: number;
  /** Subtracted once and for each occurrence of a token in the answer so far; 2^−12 nats. */
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Added to logits of single tokens; 2^−12 nats. */
  readonly bias: ReadonlyMap<number, number>;
  readonly key: PhiloxKey;
}

/** Fractional bits of temperature and probabilities. */
const parameterFraction = 16;
/** Bits of a logit after penalties, so that its product with the inverse temperature stays below 2^52. */
const adjustedBits = 28;
export const inverseTemperatureMax: number = 2 ** 23;
/** round(2^16 · log2(e)). */
const log2OfE = 94_548;
/** No score falls behind by more and still wins: the largest noise minus the smallest. */
const gumbelSpread: number = 93_691 + 10_104;
/** The last cell of the Gumbel table has a table of its own. */
const lastDraw: number = gumbelEntries - 1;

/** Whoever is further behind weighs nothing in a nucleus (2^24 shifted by 26 bits), and comes after it is reached. */
const nucleusSpread: number = Math.ceil(((18 * 1_024 + 1) * 2 ** 18) / log2OfE);
/** More than any id (`vocabularyMax` of model/limits.ts). */
const idsMax: number = 2 ** 20;

/** How often each token occurs in the answer so far (not in the prompt). */
export type TokenCounts = ReadonlyMap<number, number>;

/**
 * The next token at `position` (of the answer, from 0).
 * @param logits with 12 fractional bits
 * @param allowed one bit a token, in words of 32: the others do not exist; null: all are there
 */
export function sampleToken(
  logits: Int32Array,
  parameters: SamplerParameters,
  counts: TokenCounts,
  position: number,
  allowed: Int32Array | null = null,
): number {
  const adjusted = adjust(logits, parameters, counts);
  if (allowed !== null) forbid(adjusted, allowed);
  if (parameters.inverseTemperature === 0) return firstLargest(adjusted);
  const scores = adjusted.map((value) =>
    value === forbidden ? forbidden : scaleByTemperature(value, parameters.inverseTemperature),
  );
  const best = scores[firstLargest(scores)]!;
  const candidates = filterCandidates(scores, best, parameters);
  return drawAmong(scores, candidates, parameters.key, position);
}

/** 1. Penalties and bias. Tokens without either are only clamped. */
function adjust(logits: Int32Array, parameters: SamplerParameters, counts: TokenCounts): Int32Array {
  const { presencePenalty, frequencyPenalty, bias } = parameters;
  const max = 2 ** adjustedBits - 1;
  const adjusted = logits.map((value) => (value > max ? max : value < -max ? -max : value));
  for (const id of new Set([...counts.keys(), ...bias.keys()])) {
    if (id >= logits.length) continue;
    const count = counts.get(id) ?? 0;
    const penalty = count > 0 ? presencePenalty + count * frequencyPenalty : 0;
    adjusted[id] = saturate(logits[id]! - penalty + (bias.get(id) ?? 0), adjustedBits);
  }
  return adjusted;
}

/** Below every logit and every score. */
const forbidden: number = -(2 ** 31);

/** 0. Tokens that may not come. */
function forbid(values: Int32Array, allowed: Int32Array): void {
  for (let id = 0; id < values.length; id++) {
    if (((allowed[id >>> 5]! >>> (id & 31)) & 1) === 0) values[id] = forbidden;
  }
}

/** 2. Division by the temperature. */
function scaleByTemperature(value: number, inverseTemperature: number): number {
  return saturate(roundShift(value * inverseTemperature, parameterFraction), 31);
}

/** 3. Ids that top-k, top-p and min-p leave, in no particular order. */
function filterCandidates(scores: Int32Array, best: number, parameters: SamplerParameters): number[] {
  const { topK, topP, minP } = parameters;
  const one = 2 ** parameterFraction;
  const likely = (id: number): boolean => 2 ** 24 * minP <= one * weightOf(best - scores[id]!, 0);
  let candidates: number[];
  if (topK === 0 && topP >= one) {
    // Whoever is further behind loses every draw: leaving them out changes nothing.
    candidates = idsFrom(scores, Math.max(forbidden + 1, best - gumbelSpread));
  } else {
    candidates =
      topK === 0
        ? byLikelihood(scores, idsFrom(scores, Math.max(forbidden + 1, best - nucleusSpread)))
        : mostLikely(scores, topK);
    if (topP < one) candidates = nucleus(scores, candidates, best, topP);
  }
  return minP === 0 ? candidates : candidates.filter(likely);
}

/** e^(−distance) with 24 − `drop` fractional bits; the distance has 12. */
function weightOf(distance: number, drop: number): number {
  const octaves = roundShift(distance * log2OfE, parameterFraction + 2);
  return exp2Of(octaves + drop * 1_024);
}

/** Descending by score, then ascending by id. */
function byLikelihood(scores: Int32Array, ids: readonly number[]): number[] {
  // As numbers below 2^53, which sort many times faster than with a function.
  const keys = Float64Array.from(ids, (id) => (2 ** 31 - scores[id]!) * idsMax + id).sort();
  return Array.from(keys, (key) => key % idsMax);
}

function mostLikely(scores: Int32Array, count: number): number[] {
  // The threshold first, so that only few are sorted.
  const last = count < scores.length ? scores.toSorted()[scores.length - count]! : forbidden;
  const threshold = Math.max(forbidden + 1, last);
  return byLikelihood(scores, idsFrom(scores, threshold)).slice(0, count);
}

function idsFrom(scores: Int32Array, threshold: number): number[] {
  const ids: number[] = [];
  for (let id = 0; id < scores.length; id++) if (scores[id]! >= threshold) ids.push(id);
  return ids;
}

/** The smallest set of the most likely whose share reaches `topP`; at least one. */
function nucleus(scores: Int32Array, sorted: readonly number[], best: number, topP: number): number[] {
  // 16-bit weights: sums over 2^20 tokens times 2^16 stay below 2^53.
  const weights = sorted.map((id) => weightOf(best - scores[id]!, 8));
  const total = weights.reduce((a, b) => a + b, 0);
  let sum = 0;
  const end = weights.findIndex((weight) => (sum += weight) * 2 ** parameterFraction >= topP * total);
  return sorted.slice(0, end === -1 ? sorted.length : end + 1);
}

/** 4. The largest sum of score and Gumbel noise (Gumbel 1954): a draw from the softmax of the candidates. */
function drawAmong(
  scores: Int32Array,
  candidates: readonly number[],
  key: PhiloxKey,
  position: number,
): number {
  const gumbel = gumbelTable();
  /** Half of a word for each of eight ids. */
  const drawOf = (words: readonly number[], id: number): number =>
    (words[(id >>> 1) & 3]! >>> (16 * (id & 1))) & 0xffff;
  let chosen = -1;
  let bestScore = Number.NEGATIVE_INFINITY;
  let block = -1;
  let draws: readonly number[] = [];
  for (const id of candidates) {
    // Eight 16-bit draws a block.
    if (block !== id >>> 3) {
      block = id >>> 3;
      draws = philox([block, position, 0, 0], key);
    }
    const draw = drawOf(draws, id);
    const noise =
      draw < lastDraw ? gumbel[draw]! : gumbelTailTable()[drawOf(philox([block, position, 1, 0], key), id)]!;
    const score = scores[id]! + noise;
    if (score > bestScore || (score === bestScore && id < chosen)) {
      bestScore = score;
      chosen = id;
    }
  }
  return chosen;
}

/** Index of the largest; of several the first. */
function firstLargest(values: Int32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
