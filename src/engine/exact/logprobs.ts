/** Log probabilities of the exact engine: for reports only, in floating point; no choice depends on them. */
import type { TokenLogprob } from "../../protocol/generate.ts";
import type { PieceTable } from "../piece-decoder.ts";

/** Logits are nats in Q12. */
const one = 4_096;

/** @param count alternatives, the most likely first; of several alike the lowest id */
export function logprobOf(
  logits: Int32Array,
  tokenId: number,
  count: number,
  pieces: PieceTable,
): TokenLogprob {
  const best = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, logit) => total + Math.exp((logit - best) / one), 0);
  const scored = (id: number) => ({
    bytes: pieces(id),
    logprob: Math.fround(Math.min(0, (logits[id]! - best) / one - Math.log(sum))),
  });
  return { ...scored(tokenId), top: mostLikely(logits, count).map(scored) };
}

function mostLikely(logits: Int32Array, count: number): number[] {
  const top: number[] = [];
  if (count === 0) return top;
  for (let id = 0; id < logits.length; id++) {
    if (top.length === count && logits[id]! <= logits[top.at(-1)!]!) continue;
    const place = top.findIndex((other) => logits[other]! < logits[id]!);
    top.splice(place === -1 ? top.length : place, 0, id);
    if (top.length > count) top.pop();
  }
  return top;
}
