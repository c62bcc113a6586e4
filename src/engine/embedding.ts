/** What engines that make embeddings share. */
import { SkeinError } from "../util/errors.ts";

/**
 * How many of a vector's first components are kept: all, or as many as are wanted of a model that was trained so that its
 * first components are a vector by themselves (Kusupati et al. 2022, "Matryoshka Representation Learning").
 *
 * @throws SkeinError `unsupported_parameter`
 */
export function dimensionsKept(wanted: number | null, own: number, isMatryoshka: boolean): number {
  if (wanted === null || wanted === own) return own;
  if (isMatryoshka && wanted < own) return wanted;
  const why = isMatryoshka ? `have at most ${own}` : `always have ${own}`;
  throw new SkeinError("unsupported_parameter", `Vectors of this model ${why} dimensions, not ${wanted}.`, {
    param: "dimensions",
    hint: `Leave it out, or ask for ${own}.`,
  });
}

/** The first `count` components, divided by their length. A vector of zeros stays one. */
export function unitVector(values: ArrayLike<number>, count: number): Float64Array {
  const kept = Float64Array.from({ length: count }, (_, i) => values[i]!);
  const length = Math.sqrt(kept.reduce((sum, value) => sum + value * value, 0));
  return length === 0 ? kept : kept.map((value) => value / length);
}

/** There is no answer: an input may fill the whole context. @throws SkeinError `context_length_exceeded` */
export function checkInputLength(tokens: number, contextTokens: number): void {
  if (tokens <= contextTokens) return;
  throw new SkeinError(
    "context_length_exceeded",
    `An input has ${tokens} tokens, but this model's context is ${contextTokens} tokens.`,
    { param: "input", hint: "Divide it into shorter ones." },
  );
}
