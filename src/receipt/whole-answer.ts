/** An answer as its attempts delivered it. */
import type { Part } from "./document.ts";

/**
 * Each attempt goes on where it was told to. That may be before where the one ahead of it stopped, when a stream moved while both
 * ran: what they both delivered counts once.
 * @returns `tokenIds` null: an engine had none
 */
export function wholeAnswer(parts: readonly Part[]): {
  readonly tokenIds: readonly number[] | null;
  readonly text: string;
} {
  let tokenIds: number[] | null = [];
  let text = "";
  for (const part of parts) {
    const from = part.textFrom === undefined ? Number.POSITIVE_INFINITY : part.asked.emitted.tokens;
    tokenIds =
      tokenIds === null || part.tokenIds === null ? null : [...tokenIds.slice(0, from), ...part.tokenIds];
    text = text.slice(0, part.textFrom) + part.text;
  }
  return { tokenIds, text };
}

/** Tokens that two attempts delivered, and both signed for. */
export function repeatedTokens(parts: readonly Part[]): number {
  return parts.reduce((sum, { textFrom, asked }, i) => {
    if (textFrom === undefined) return sum;
    const before = wholeAnswer(parts.slice(0, i)).tokenIds?.length ?? 0;
    return sum + Math.max(0, before - asked.emitted.tokens);
  }, 0);
}
