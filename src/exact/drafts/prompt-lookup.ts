/** Guesses that a sequence goes on as it did after the same last tokens before: prompts that are quoted, code, lists, repetitions. */
import type { DraftSource, DraftWish } from "./draft-source.ts";

/** Tokens that must have occurred before, the longest first. */
const lengths = [4, 3, 2] as const;

/** Where each run of tokens was last followed by something, by hash: compared again before it is used. */
interface Index {
  readonly ends: Map<number, number>;
  /** Tokens that are entered. */
  length: number;
}

export class PromptLookup implements DraftSource {
  readonly isFree = true;
  readonly #indexes = new WeakMap<object, Index>();

  propose(wishes: readonly DraftWish[]): readonly (readonly number[])[] {
    return wishes.map(({ key, tokens, countMax }) => {
      const index = this.#indexes.get(key) ?? { ends: new Map<number, number>(), length: 0 };
      this.#indexes.set(key, index);
      enter(index, tokens);
      const end = lastOccurrence(index, tokens);
      if (end === null) return [];
      // What follows may reach into itself: a repetition goes on.
      const draft: number[] = [];
      for (let i = 0; i < countMax; i++) {
        const at = end + i;
        draft.push(at < tokens.length ? tokens[at]! : draft[at - tokens.length]!);
      }
      return draft;
    });
  }

  forget(key: object): void {
    this.#indexes.delete(key);
  }
}

/** The position behind the last earlier occurrence of the tokens at the end; null: there is none. */
function lastOccurrence({ ends }: Index, tokens: readonly number[]): number | null {
  const { length } = tokens;
  for (const count of lengths) {
    if (length <= count) continue;
    const end = ends.get(hashOf(tokens, length, count));
    if (end === undefined) continue;
    let same = 0;
    while (same < count && tokens[end - 1 - same] === tokens[length - 1 - same]) same++;
    if (same === count) return end;
  }
  return null;
}

/** All tokens that are followed by something. */
function enter(index: Index, tokens: readonly number[]): void {
  for (let end = index.length + 1; end < tokens.length; end++) {
    for (const count of lengths) if (end >= count) index.ends.set(hashOf(tokens, end, count), end);
  }
  index.length = Math.max(0, tokens.length - 1);
}

/** Of `count` tokens before `end` (FNV-1a by numbers). */
function hashOf(tokens: readonly number[], end: number, count: number): number {
  let hash = 0x811c9dc5 ^ count;
  for (let i = end - count; i < end; i++) hash = Math.imul(hash ^ tokens[i]!, 0x01000193);
  return hash;
}
