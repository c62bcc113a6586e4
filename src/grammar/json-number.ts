import { type Bound, decimalsBetween, integersBetween } from "./number-range.ts";
import { either } from "./grammar-writer.ts";
import { invalid, type SchemaObject, unsupported } from "./schema-keywords.ts";

/** Where only the other bound is given: as far as numbers without a bound go. */
const farthest = 10n ** 15n - 1n;

/** Null: there is no bound. @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function numberGrammar(type: "integer" | "number", schema: SchemaObject, path: string): string | null {
  const low = tighter(schema, "minimum", "exclusiveMinimum", 1, path);
  const high = tighter(schema, "maximum", "exclusiveMaximum", -1, path);
  if (low === null && high === null) return null;
  const text = type === "integer" ? integers(low, high) : decimals(low, high);
  if (text === null) throw invalid(path, "no number is within its bounds");
  return text;
}

interface Limit {
  readonly value: number;
  readonly isExclusive: boolean;
}

/** @param sign 1: of two bounds the larger one counts, −1: the smaller one */
function tighter(
  schema: SchemaObject,
  inclusive: string,
  exclusive: string,
  sign: 1 | -1,
  path: string,
): Limit | null {
  const [including, excluding] = [numberOf(schema, inclusive, path), numberOf(schema, exclusive, path)];
  if (excluding !== null && (including === null || sign * excluding >= sign * including)) {
    return { value: excluding, isExclusive: true };
  }
  return including === null ? null : { value: including, isExclusive: false };
}

function numberOf(schema: SchemaObject, keyword: string, path: string): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (typeof value !== "number" || !Number.isFinite(value))
    throw invalid(path, `'${keyword}' must be a number`);
  const isPlain = Math.abs(value) <= Number(farthest) && !String(value).includes("e");
  if (!isPlain)
    throw unsupported(
      path,
      `'${keyword}' must be within ±10^15, and no smaller than 10^-6 unless 0; others are not supported`,
    );
  return value;
}

function integers(low: Limit | null, high: Limit | null): string | null {
  const least = low === null ? -farthest : BigInt(Math.ceil(low.value)) + (isHit(low) ? 1n : 0n);
  const most = high === null ? farthest : BigInt(Math.floor(high.value)) - (isHit(high) ? 1n : 0n);
  return integersBetween(least, most);
}

function isHit({ value, isExclusive }: Limit): boolean {
  return isExclusive && Number.isInteger(value);
}

/** Both sides of zero; zero itself is on the upper one. */
function decimals(low: Limit | null, high: Limit | null): string | null {
  const from = low ?? { value: -Number(farthest), isExclusive: false };
  const to = high ?? { value: Number(farthest), isExclusive: false };
  const parts: string[] = [];
  if (from.value < 0) {
    const end = to.value < 0 ? to : { value: 0, isExclusive: true };
    const negative = decimalsBetween(bound(end), bound(from));
    if (negative !== null) parts.push(`"-" ${negative}`);
  }
  if (to.value >= 0) {
    const begin = from.value < 0 ? { value: 0, isExclusive: false } : from;
    const positive = decimalsBetween(bound(begin), bound(to));
    if (positive !== null) parts.push(positive);
  }
  return parts.length === 0 ? null : either(parts);
}

function bound({ value, isExclusive }: Limit): Bound {
  return { digits: String(Math.abs(value)), isExclusive };
}
