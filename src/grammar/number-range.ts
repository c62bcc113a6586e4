/** Grammars of numbers within bounds, digit by digit. */
import { either, repeated } from "./grammar-writer.ts";
import { fractionDigitsMax } from "./json-text.ts";

export interface Bound {
  /** Decimal, without sign and exponent: `12.5`. */
  readonly digits: string;
  readonly isExclusive: boolean;
}

const digit = "[0-9]";

/** Decimal integers without leading zeros from `low` to `high`, both included. Null: there are none. */
export function integersBetween(low: bigint, high: bigint): string | null {
  if (low > high) return null;
  const negative = low < 0n ? naturals(high < 0n ? -high : 1n, -low) : [];
  const positive = high >= 0n ? naturals(low > 0n ? low : 0n, high) : [];
  return either([...negative.map((text) => `"-" ${text}`), ...positive]);
}

/** Alternatives, one for each number of digits. */
function naturals(low: bigint, high: bigint): string[] {
  const alternatives: string[] = [];
  for (let length = String(low).length; length <= String(high).length; length++) {
    const least = length === 1 ? 0n : 10n ** BigInt(length - 1);
    const most = 10n ** BigInt(length) - 1n;
    alternatives.push(sameLength(String(low > least ? low : least), String(high < most ? high : most)));
  }
  return alternatives;
}

/** Digit strings between two of the same length. */
function sameLength(low: string, high: string): string {
  if (low === "") return '""';
  const [first, last, rest] = [Number(low[0]), Number(high[0]), low.length - 1];
  const isFree = /^0*$/.test(low.slice(1)) && /^9*$/.test(high.slice(1));
  if (isFree) return `${digits(first, last)} ${exactly(rest)}`;
  if (first === last) return `"${first}" ${sameLength(low.slice(1), high.slice(1))}`;
  const alternatives = [
    `"${first}" ${sameLength(low.slice(1), "9".repeat(rest))}`,
    `"${last}" ${sameLength("0".repeat(rest), high.slice(1))}`,
  ];
  if (first + 1 < last) alternatives.push(`${digits(first + 1, last - 1)} ${exactly(rest)}`);
  return either(alternatives);
}

function digits(from: number, to: number): string {
  return from === to ? `"${from}"` : `[${from}-${to}]`;
}

function exactly(count: number): string {
  return repeated(digit, count, count);
}

/** Decimal fractions without exponents between two bounds that are not negative. Null: there are none. */
export function decimalsBetween(low: Bound, high: Bound): string | null {
  const [lowWhole, lowRest] = split(low);
  const [highWhole, highRest] = split(high);
  const alternatives: (string | null)[] = [];
  const withFraction = (whole: bigint, from: Edge | null, to: Edge | null): void => {
    const rest = fraction(from, to);
    alternatives.push(rest === null ? null : `"${whole}" ${rest}`);
  };
  if (lowWhole > highWhole) return null;
  const [from, to] = [
    { rest: lowRest, isExclusive: low.isExclusive },
    { rest: highRest, isExclusive: high.isExclusive },
  ];
  if (lowWhole === highWhole) {
    withFraction(lowWhole, from, to);
  } else {
    withFraction(lowWhole, from, null);
    withFraction(highWhole, null, to);
    const between = integersBetween(lowWhole + 1n, highWhole - 1n);
    if (between !== null) alternatives.push(`${between} ${fraction(null, null)}`);
  }
  const possible = alternatives.filter((text) => text !== null);
  return possible.length === 0 ? null : either(possible);
}

/** The digits of a bound that are still to come, without zeros at the end. */
interface Edge {
  readonly rest: string;
  readonly isExclusive: boolean;
}

function split({ digits: text }: Bound): [bigint, string] {
  const [whole, rest] = text.split(".");
  return [BigInt(whole!), (rest ?? "").replace(/0+$/, "")];
}

/** A point and digits, or nothing. */
function fraction(from: Edge | null, to: Edge | null): string | null {
  const alternatives: string[] = [];
  if (mayEnd(from, to)) alternatives.push('""');
  const more = moreDigits(from, to, fractionDigitsMax);
  if (more !== null) alternatives.push(`"." ${more}`);
  return alternatives.length === 0 ? null : either(alternatives);
}

function mayEnd(from: Edge | null, to: Edge | null): boolean {
  const isAbove = from === null || (from.rest === "" && !from.isExclusive);
  return isAbove && (to === null || to.rest !== "" || !to.isExclusive);
}

/** One digit at least; `from` and `to` are null where an earlier digit decided already. */
function moreDigits(from: Edge | null, to: Edge | null, left: number): string | null {
  // Everything that begins with an inclusive lower bound is above it.
  const low = from?.rest === "" && !from.isExclusive ? null : from;
  if (left === 0) return null;
  if (low === null && to === null) return repeated(digit, 1, left);
  const alternatives: string[] = [];
  const [least, most] = [Number(low?.rest[0] ?? 0), to === null ? 9 : Number(to.rest[0] ?? 0)];
  const free: number[] = [];
  for (let next = least; next <= most; next++) {
    const nextLow = low !== null && next === least ? { ...low, rest: low.rest.slice(1) } : null;
    const nextTo = to !== null && next === most ? { ...to, rest: to.rest.slice(1) } : null;
    if (nextLow === null && nextTo === null) {
      free.push(next);
      continue;
    }
    const endings = mayEnd(nextLow, nextTo) ? ['""'] : [];
    const more = moreDigits(nextLow, nextTo, left - 1);
    if (more !== null) endings.push(more);
    if (endings.length > 0) alternatives.push(`"${next}" ${either(endings)}`);
  }
  if (free.length > 0) {
    alternatives.push(`${digits(free[0]!, free.at(-1)!)} ${repeated(digit, 0, left - 1)}`);
  }
  return alternatives.length === 0 ? null : either(alternatives);
}
