/** The sampler's specification once more, without anything that makes it quick; for tests only. */
import { philox } from "../ops/philox.ts";
import { exp2Table, gumbelTable, gumbelTailTable } from "../ops/tables.ts";
import type { SamplerParameters, TokenCounts } from "./sampler.ts";

const clamp = (v: bigint, bits: bigint): bigint => {
  const max = (1n << bits) - 1n;
  if (v > max) return max;
  return v < -max ? -max : v;
};
const round = (v: bigint, shift: bigint): bigint => (v + (1n << (shift - 1n))) >> shift;

/** e^(−distance) with `fraction` fractional bits, by way of a power of two with ten. */
function weight(distance: bigint, fraction: bigint): bigint {
  const octaves = round(distance * 94_548n, 18n) + (24n - fraction) * 1_024n;
  const entry = BigInt(exp2Table[Number(octaves % 1_024n)]!);
  const shift = octaves / 1_024n;
  return shift === 0n ? entry : round(entry, shift);
}

/** The draw of one token at one position: 16 bits, alone of all others; or its second draw. */
export function drawOf(id: number, position: number, key: readonly [number, number], second = 0): number {
  const block = philox([Math.floor(id / 8), position, second, 0], key);
  const word = block[Math.floor((id % 8) / 2)]!;
  return id % 2 === 0 ? word % 65_536 : Math.floor(word / 65_536);
}

/** Scores of all tokens after penalties, bias and temperature; with temperature 0 without the last. */
export function plainScores(
  logits: Int32Array,
  parameters: SamplerParameters,
  counts: TokenCounts,
): bigint[] {
  return Array.from(logits, (logit, id) => {
    const count = counts.get(id) ?? 0;
    const penalty =
      count === 0
        ? 0n
        : BigInt(parameters.presencePenalty) + BigInt(count) * BigInt(parameters.frequencyPenalty);
    const adjusted = clamp(BigInt(logit) - penalty + BigInt(parameters.bias.get(id) ?? 0), 28n);
    const { inverseTemperature } = parameters;
    return inverseTemperature === 0
      ? adjusted
      : clamp(round(adjusted * BigInt(inverseTemperature), 16n), 31n);
  });
}

/** The candidates that the filters leave, from the most likely on. */
export function plainCandidates(
  scores: readonly bigint[],
  parameters: SamplerParameters,
  allowed: Allowed = () => true,
): number[] {
  const { topK, topP, minP } = parameters;
  const order = [...scores.keys()]
    .filter(allowed)
    .sort((a, b) => (scores[a] === scores[b] ? a - b : Number(scores[b]! - scores[a]!)));
  const best = scores[order[0]!]!;
  // 1. At most k.
  let kept = topK === 0 ? order : order.slice(0, topK);
  // 2. As few of the most likely as have together p of what is left.
  if (topP < 65_536) {
    const weights = kept.map((id) => weight(best - scores[id]!, 16n));
    const total = weights.reduce((a, b) => a + b);
    let sum = 0n;
    let count = 0;
    do sum += weights[count++]!;
    while (count < kept.length && sum * 65_536n < total * BigInt(topP));
    kept = kept.slice(0, count);
  }
  // 3. Those at least p times as likely as the best.
  return kept.filter((id) => minP === 0 || weight(best - scores[id]!, 24n) * 65_536n >= BigInt(minP) << 24n);
}

/** Whether a token exists, as far as this choice is concerned. */
type Allowed = (id: number) => boolean;

export function plainToken(
  logits: Int32Array,
  parameters: SamplerParameters,
  counts: TokenCounts,
  position: number,
  allowed: Allowed = () => true,
): number {
  const scores = plainScores(logits, parameters, counts);
  if (parameters.inverseTemperature === 0) {
    const ids = [...scores.keys()].filter(allowed);
    return ids.reduce((a, b) => (scores[b]! > scores[a]! ? b : a));
  }
  const noiseOf = (id: number): number => {
    const draw = drawOf(id, position, parameters.key);
    if (draw < 65_535) return gumbelTable()[draw]!;
    return gumbelTailTable()[drawOf(id, position, parameters.key, 1)]!;
  };
  const totals = plainCandidates(scores, parameters, allowed)
    .sort((a, b) => a - b)
    .map((id) => ({ id, total: scores[id]! + BigInt(noiseOf(id)) }));
  return totals.reduce((a, b) => (b.total > a.total ? b : a)).id;
}
