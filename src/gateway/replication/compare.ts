/** Whether replicas of an answer are the same, bit for bit. */
import { sha256 } from "../../engine/sha256.ts";
import { answerBits } from "../../receipt/answer-bits.ts";
import type { Part } from "../../receipt/document.ts";
import { wholeAnswer } from "../../receipt/whole-answer.ts";

/** A replica that was answered, and signed for. */
export interface Answered {
  readonly replica: number;
  readonly parts: readonly Part[];
}

/** Replicas with the same bits; the most frequent answer first, among equals the one of the first replica. */
export function sameAnswers<T extends Answered>(answers: readonly T[]): T[][] {
  const byBits = new Map<string, T[]>();
  for (const answer of answers) {
    const bits = answerBits(sha256, answer)!;
    byBits.set(bits, [...(byBits.get(bits) ?? []), answer]);
  }
  return [...byBits.values()].toSorted((a, b) => b.length - a.length);
}

function tokensOf(parts: readonly Part[]): readonly number[] {
  return wholeAnswer(parts).tokenIds ?? [];
}

/**
 * Which attempt of a replica gave another answer than the rest; null: nobody can be named, for several took part and their tokens
 * are the same.
 */
export function differingPart(
  wrong: Pick<Answered, "parts">,
  right: Pick<Answered, "parts">,
): { readonly part: number; readonly position: number } | null {
  const [a, b] = [tokensOf(wrong.parts), tokensOf(right.parts)];
  let position = 0;
  while (position < Math.max(a.length, b.length) && a[position] === b[position]) position += 1;
  const { parts } = wrong;
  if (parts.length === 1) return { part: 0, position: Math.min(position, Math.max(0, a.length - 1)) };
  if (position === Math.max(a.length, b.length)) return null;
  const begun = parts.findLastIndex(({ asked }) => asked.emitted.tokens <= position);
  return { part: Math.max(0, begun), position };
}
