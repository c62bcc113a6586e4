import { type Bound, decimalsBetween, integersBetween } from "./number-range.ts";
import { either, type GrammarWriter } from "./grammar-writer.ts";
import { multiplesBetween } from "./number-multiples.ts";
import { invalid, type SchemaObject, unsupported } from "./schema-keywords.ts";

/** Where only the other bound is given: as far as numbers without a bound go. */
const farthest = 10n ** 15n - 1n;

/** Null: there is no bound. @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function numberGrammar(
  writer: GrammarWriter,
  type: "integer" | "number",
  schema: SchemaObject,
  path: string,
): string | null {
  const low = tighter(schema, "minimum", "exclusiveMinimum", 1, path);
  const high = tighter(schema, "maximum", "exclusiveMaximum", -1, path);
  const step = stepOf(schema, type, path);
  if (step !== null) {
    const text = multiplesBetween(writer, multiplesOf(step, low, high), path);
    if (text === null) throw invalid(path, "no multiple of 'multipleOf' is within its bounds");
    return text;
  }
  if (low === null && high === null) return null;
  const text = type === "integer" ? integers(low, high) : decimals(low, high);
  if (text === null) throw invalid(path, "no number is within its bounds");
  return text;
}

/** A multiple's unit: `factor` · 10^−`places`. */
interface Step {
  readonly factor: bigint;
  readonly places: number;
}

/** What is left of a factor without 2 and 5 counts remainders: each is a state for each digit. */
const remaindersMax = 128n;
const statesWanted = 1_000n;
/** Digits of numbers, and of those behind the point. */
const digitsMax = 15;
const placesMax = 6;

/** Null: any number will do. */
function stepOf(schema: SchemaObject, type: "integer" | "number", path: string): Step | null {
  const value = schema["multipleOf"];
  if (value === undefined) return null;
  if (typeof value !== "number" || !(value > 0)) throw invalid(path, "'multipleOf' must be a number above 0");
  const [whole = "", behind = ""] = String(value).split(".");
  if (!/^\d+$/.test(whole + behind) || behind.length > placesMax || value >= 10 ** digitsMax) {
    throw unsupported(
      path,
      `'multipleOf' with more than ${placesMax} digits behind the point, or above 10^${digitsMax}, is not supported`,
    );
  }
  const factor = BigInt(whole + behind);
  const step =
    type === "integer"
      ? { factor: factor / commonDivisor(factor, 10n ** BigInt(behind.length)), places: 0 }
      : { factor, places: behind.length };
  if (remaindersOf(step.factor) > remaindersMax) {
    throw unsupported(
      path,
      `this 'multipleOf' takes too many states (at most ${remaindersMax}); powers of ten and small integers are supported`,
    );
  }
  return type === "integer" && step.factor === 1n ? null : step;
}

function multiplesOf({ factor, places }: Step, low: Limit | null, high: Limit | null) {
  // Only as far as an automaton of a reasonable size goes.
  const digits = statesWanted / remaindersOf(factor);
  const far = 10n ** (digits < 15n ? digits : 15n) - 1n;
  const least = low === null ? null : unitsOf(low, places, 1);
  const most = high === null ? null : unitsOf(high, places, -1);
  // Behind a bound that is farther than that, there is room for some.
  const some = 1_000n * factor;
  return {
    factor,
    places,
    low: least ?? (most !== null && most < -far ? most - some : -far),
    high: most ?? (least !== null && least > far ? least + some : far),
  };
}

/** A bound in units of 10^−places: the next one inwards. @param sign 1: a lower bound, −1: an upper one */
function unitsOf({ value, isExclusive }: Limit, places: number, sign: 1 | -1): bigint {
  const [whole = "", behind = ""] = String(value).split(".");
  const numerator = BigInt(whole.replace("-", "") + behind) * (value < 0 ? -1n : 1n) * 10n ** BigInt(places);
  const denominator = 10n ** BigInt(behind.length);
  const isExact = numerator % denominator === 0n;
  const truncated = numerator / denominator;
  const floor = !isExact && numerator < 0n ? truncated - 1n : truncated;
  if (isExact) return floor + (isExclusive ? BigInt(sign) : 0n);
  return sign === 1 ? floor + 1n : floor;
}

function remaindersOf(factor: bigint): bigint {
  let left = factor;
  for (const prime of [2n, 5n]) while (left % prime === 0n) left /= prime;
  return left;
}

function commonDivisor(a: bigint, b: bigint): bigint {
  return b === 0n ? a : commonDivisor(b, a % b);
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
