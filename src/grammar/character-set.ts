/** Sets of Unicode code points as sorted, separate, inclusive ranges; surrogates are in none. */
export type CharacterSet = readonly (readonly [number, number])[];

const last = 0x10ffff;
/** UTF-8 has no surrogates. */
const surrogates = [0xd800, 0xdfff] as const;

/** In any order, overlapping or not. */
export function setOf(ranges: CharacterSet): CharacterSet {
  const merged: [number, number][] = [];
  for (const [low, high] of ranges.toSorted(([a], [b]) => a - b)) {
    const before = merged.at(-1);
    if (before !== undefined && low <= before[1] + 1) before[1] = Math.max(before[1], high);
    else merged.push([low, high]);
  }
  return merged.flatMap(withoutSurrogates);
}

export function complement(set: CharacterSet): CharacterSet {
  const holes: [number, number][] = [];
  let next = 0;
  for (const [low, high] of [...set, [last + 1, last + 1] as const]) {
    if (low > next) holes.push([next, low - 1]);
    next = high + 1;
  }
  return holes.flatMap(withoutSurrogates);
}

export function intersection(a: CharacterSet, b: CharacterSet): CharacterSet {
  return a.flatMap(([low, high]) =>
    b
      .map(([from, to]): [number, number] => [Math.max(low, from), Math.min(high, to)])
      .filter(([from, to]) => from <= to),
  );
}

export function characters(text: string): CharacterSet {
  return setOf(Array.from(text, (character) => [character.codePointAt(0)!, character.codePointAt(0)!]));
}

export const everything: CharacterSet = complement([]);

function withoutSurrogates([low, high]: readonly [number, number]): [number, number][] {
  if (high < surrogates[0] || low > surrogates[1]) return [[low, high]];
  const parts: [number, number][] = [
    [low, surrogates[0] - 1],
    [surrogates[1] + 1, high],
  ];
  return parts.filter(([from, to]) => from <= to);
}
