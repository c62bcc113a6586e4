/** Answers drawn at random under a mask, from a small vocabulary that crosses the borders of JSON's own tokens. */
import assert from "node:assert/strict";
import { utf8 } from "../../util/bytes.ts";
import type { TokenMask } from "./token-masks.ts";

/** All bytes, some longer tokens that cross the borders of JSON's own, one without text, and the end. */
export const pieces = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...['{"', '":', '","', '"}', ', "', "true", "null", "12", '\\"', "\\u00", 'é"', "}]", "\n    "].map(utf8),
  new Uint8Array(0),
  new Uint8Array(0),
];
const empty = pieces.length - 2;
export const end = pieces.length - 1;
export const model = {
  pieces: (id: number) => pieces[id]!,
  isEnd: (id: number) => id === end,
  vocabularySize: pieces.length,
};
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function textOf(tokenIds: readonly number[]): string {
  return decoder.decode(Uint8Array.from(tokenIds.flatMap((id) => [...pieces[id]!])));
}

export function idsIn(mask: Int32Array): number[] {
  return pieces.map((_, id) => id).filter((id) => ((mask[id >>> 5]! >>> (id & 31)) & 1) === 1);
}

/** Prefers what closes, so that answers end. */
export function pick(ids: readonly number[], next: () => number): number {
  const closing = ids.filter((id) => /^["}\]]/.test(new TextDecoder().decode(pieces[id])));
  if (ids.includes(end) && next() % 2 === 0) return end;
  const from = closing.length > 0 && next() % 3 === 0 ? closing : ids;
  return from[next() % from.length]!;
}

/** A random answer; null when it did not end within a while. */
export function walk(mask: TokenMask, next: () => number, tokenIds: number[] = []): number[] | null {
  for (let i = 0; i < 300; i++) {
    const allowed = mask.allowed();
    if (allowed === null) return tokenIds;
    const ids = idsIn(allowed);
    assert.ok(ids.length > 0, "there is always something to say");
    assert.ok(!ids.includes(empty), "a token without text leads nowhere");
    const id = pick(ids, next);
    if (id === end) return tokenIds;
    tokenIds.push(id);
    mask.advance(id);
  }
  return null;
}
