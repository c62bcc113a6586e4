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
  const ends = (): string => '""';
  const negative = low < 0n ? naturals(high < 0n ? -high : 1n, -low, ends) : null;
  const positive = high >= 0n ? naturals(low > 0n ? low : 0n, high, ends) : null;
  const parts = [...(negative === null ? [] : [`"-" ${negative}`]), ...(positive === null ? [] : [positive])];
  return parts.length === 0 ? null : either(parts);
}

/** Decimal fractions without exponents between two bounds that are not negative. Null: there are none. */
export function decimalsBetween(low: Bound, high: Bound): string | null {
  const [from, to] = [edgeOf(low), edgeOf(high)];
  if (from.whole > to.whole) return null;
  return naturals(from.whole, to.whole, (isLow, isHigh) => fraction(isLow ? from : null, isHigh ? to : null));
}

/** What may follow the last digit of a number: whether it is the lowest one, the highest one. */
type Ending = (isLow: boolean, isHigh: boolean) => string | null;

/** Numbers of one length: how many digits are left, and of the bounds what the digits so far have not decided. */
export interface Open {
  readonly left: number;
  readonly low: string | null;
  readonly high: string | null;
}

/** Every digit leads to one place only: XGrammar 0.1.27 loses its way in large choices between similar beginnings. */
function naturals(low: bigint, high: bigint, ending: Ending): string | null {
  const [shortest, longest] = [String(low).length, String(high).length];
  const open = Array.from({ length: longest - shortest + 1 }, (_, i): Open => {
    const left = shortest + i;
    return {
      left,
      low: left === shortest ? String(low) : `1${"0".repeat(left - 1)}`,
      high: left === longest ? String(high) : null,
    };
  });
  return digitsOf(open, ending);
}

function digitsOf(open: readonly Open[], ending: Ending): string | null {
  const isFree = open.every((each) => each.low === null && each.high === null);
  if (isFree) {
    const end = ending(false, false);
    const [least, most] = [open[0]!.left, open.at(-1)!.left];
    return end === null ? null : `${repeated(digit, least, most)} ${end}`;
  }
  const alternatives: string[] = [];
  const done = open.find(({ left }) => left === 0);
  const end = done === undefined ? null : ending(done.low !== null, done.high !== null);
  if (end !== null) alternatives.push(end);
  for (let next = 0; next <= 9;) {
    const after = afterDigit(open, next);
    const key = JSON.stringify(after);
    const first = next;
    while (next <= 9 && JSON.stringify(afterDigit(open, next)) === key) next += 1;
    const rest = after.length === 0 ? null : digitsOf(after, ending);
    if (rest !== null) alternatives.push(`${digits(first, next - 1)} ${rest}`);
  }
  return alternatives.length === 0 ? null : either(alternatives);
}

export function afterDigit(open: readonly Open[], next: number): Open[] {
  return open.flatMap(({ left, low, high }) => {
    const [least, most] = [Number(low?.[0] ?? 0), Number(high?.[0] ?? 9)];
    if (left === 0 || next < least || next > most) return [];
    return {
      left: left - 1,
      low: low !== null && next === least ? low.slice(1) : null,
      high: high !== null && next === most ? high.slice(1) : null,
    };
  });
}

function digits(from: number, to: number): string {
  return from === to ? `"${from}"` : `[${from}-${to}]`;
}

/** The digits of a bound that are still to come, without zeros at the end. */
interface Edge {
  readonly rest: string;
  readonly isExclusive: boolean;
}

function edgeOf({ digits: text, isExclusive }: Bound): Edge & { readonly whole: bigint } {
  const [whole, rest] = text.split(".");
  return { whole: BigInt(whole!), rest: (rest ?? "").replace(/0+$/, ""), isExclusive };
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
