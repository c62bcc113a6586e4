/** Grammars of the multiples of a number within bounds: an automaton of digits that knows the remainder so far. */
import { type GrammarWriter } from "./grammar-writer.ts";
import { afterDigit, type Open } from "./number-range.ts";
import { unsupported } from "./schema-keywords.ts";

/** Each is a rule, for which a mask of the whole vocabulary is made. */
const statesMax = 2_000;

/** Numbers in units of 10^−places: `low` to `high`, both included, that `factor` divides. */
export interface Multiples {
  readonly low: bigint;
  readonly high: bigint;
  readonly factor: bigint;
  /** Digits behind the point, always as many. */
  readonly places: number;
}

/** Null: there are none. @throws SkeinError `unsupported_parameter` where it would take too many states */
export function multiplesBetween(writer: GrammarWriter, given: Multiples, path: string): string | null {
  const { low, high } = given;
  const automaton = new MultiplesWriter(writer, given, path);
  const negative = low < 0n ? automaton.write(high < 0n ? -high : 1n, -low) : null;
  const positive = high >= 0n ? automaton.write(low > 0n ? low : 0n, high) : null;
  const parts = [...(negative === null ? [] : [`"-" ${negative}`]), ...(positive === null ? [] : [positive])];
  return parts.length === 0 ? null : writer.rule(parts.join(" | "));
}

class MultiplesWriter {
  readonly #writer: GrammarWriter;
  readonly #factor: bigint;
  readonly #places: number;
  readonly #path: string;
  readonly #known = new Map<string, string | null>();

  constructor(writer: GrammarWriter, { factor, places }: Multiples, path: string) {
    this.#writer = writer;
    this.#factor = factor;
    this.#places = places;
    this.#path = path;
  }

  /** Numbers that are not negative. */
  write(low: bigint, high: bigint): string | null {
    const longest = Math.max(1 + this.#places, String(high).length);
    const open: Open[] = [];
    for (let length = 1 + this.#places; length <= longest; length++) {
      // No zero in front, unless it is the only digit before the point.
      const least = length === 1 + this.#places ? 0n : 10n ** BigInt(length - 1);
      const most = 10n ** BigInt(length) - 1n;
      const [from, to] = [low > least ? low : least, high < most ? high : most];
      if (from > to) continue;
      const textOf = (value: bigint): string => String(value).padStart(length, "0");
      open.push(decided({ left: length, low: textOf(from), high: textOf(to) }));
    }
    return this.#after(open, 0n, false);
  }

  /** What may follow; the same states have the same rule. */
  #after(open: readonly Open[], remainder: bigint, isBehindPoint: boolean): string | null {
    const key = JSON.stringify([open, this.#firstMultiples(open, remainder), isBehindPoint]);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size > statesMax) {
      throw unsupported(
        this.#path,
        "'multipleOf' with so many digits is not supported; 'minimum' and 'maximum' make them fewer",
      );
    }
    // Taken before its value is known: a number never comes back to where it was.
    this.#known.set(key, null);
    const alternatives = this.#alternatives(open, remainder, isBehindPoint);
    const rule = alternatives.length === 0 ? null : this.#writer.rule(alternatives.join(" | "));
    this.#known.set(key, rule);
    return rule;
  }

  /** What the digits that are left must at least be, for each of their numbers; null: nothing will do. Says all about what may follow. */
  #firstMultiples(open: readonly Open[], remainder: bigint): (string | null)[] {
    return open.map(({ left }) => {
      const room = 10n ** BigInt(left);
      const missing = (this.#factor - ((remainder * room) % this.#factor)) % this.#factor;
      return missing < room ? String(missing) : null;
    });
  }

  #alternatives(open: readonly Open[], remainder: bigint, isBehindPoint: boolean): string[] {
    const alternatives: string[] = [];
    if (remainder === 0n && open.some(({ left }) => left === 0)) alternatives.push('""');
    const isWhole = isBehindPoint || this.#places === 0;
    const atPoint = isWhole ? [] : open.filter(({ left }) => left === this.#places);
    const behind = atPoint.length === 0 ? null : this.#after(atPoint, remainder, true);
    if (behind !== null) alternatives.push(`"." ${behind}`);
    const further = isWhole ? open : open.filter(({ left }) => left > this.#places);
    // Digits that lead to the same place, together.
    const byRest = new Map<string, string>();
    for (let next = 0; next <= 9; next++) {
      const rest = afterDigit(further, next).map(decided);
      if (rest.length === 0) continue;
      const rule = this.#after(rest, (10n * remainder + BigInt(next)) % this.#factor, isBehindPoint);
      if (rule !== null) byRest.set(rule, `${byRest.get(rule) ?? ""}${next}`);
    }
    for (const [rule, digits] of byRest) alternatives.push(`[${digits}] ${rule}`);
    return alternatives;
  }
}

/** Without bounds that allow everything. */
function decided({ left, low, high }: Open): Open {
  return {
    left,
    low: low !== null && /^0*$/.test(low) ? null : low,
    high: high !== null && /^9*$/.test(high) ? null : high,
  };
}
