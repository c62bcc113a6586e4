/** What the arithmetic can do: within these limits every intermediate value fits where docs/EXACT.md says. */
import { SkeinError } from "../../util/errors.ts";
import { type ExactShape, groupColumns, type Quantization } from "./model.ts";

/** Squares of 2^19 must sum to 2^53 at most. */
const dimMax = 16_384;
/** 2^7 · 2^13 · 2^16 · 2^15 (weight, activation, columns, multiplier) is below 2^52. */
const columnsMax = 65_536;
/** 2^24 · 2^13 · 2^16 (softmax weight, value, positions) is 2^53. */
export const contextTokensMaxSupported = 65_536;
const headDimMax = 256;
const layersMax = 1_024;
const vocabularyMax = 1_048_576;
/** SIMD kernels read 16 weights at a time. */
const columnsStep = 16;

const turnMax: number = 2 ** 47;
const epsilonMax: number = 2 ** 45;

/** @throws SkeinError `unsupported_model` when a limit does not hold */
export function checkShape(shape: ExactShape): void {
  const { dim, heads, headsKv, headDim, ffnDim } = shape;
  requireWhole("layers", shape.layers, 1, layersMax);
  requireWhole("embedding width", dim, columnsStep, dimMax, columnsStep);
  requireWhole("feed-forward width", ffnDim, columnsStep, columnsMax, columnsStep);
  requireWhole("head size", headDim, columnsStep, headDimMax, columnsStep);
  requireWhole("number of heads", heads, 1, columnsMax / headDim);
  requireWhole("number of key heads", headsKv, 1, heads);
  requireWhole("vocabulary", shape.vocabularySize, 1, vocabularyMax);
  requireWhole("context", shape.contextTokensMax, 1, contextTokensMaxSupported);
  requireWhole("epsilon of norms", shape.normEpsilon, 0, epsilonMax);
  requireWhole("epsilon of norms per head", shape.headNormEpsilon, 0, epsilonMax);
  if (heads % headsKv !== 0) throw unsupported(`${heads} heads cannot share ${headsKv} key heads evenly`);
  if (shape.turns.length !== headDim / 2) throw unsupported("not every pair of a head is rotated");
  for (const turn of shape.turns) requireWhole("turns per position", turn, 0, turnMax);
}

/** @throws SkeinError `unsupported_model` when rows cannot be cut into whole groups */
export function checkQuantization(quantization: Quantization, shape: ExactShape): void {
  if (quantization === "int8-row") return;
  const { dim, ffnDim, heads, headDim } = shape;
  const widths = { "embedding width": dim, "feed-forward width": ffnDim, "attention width": heads * headDim };
  for (const [name, width] of Object.entries(widths)) {
    if (width % groupColumns === 0) continue;
    throw new SkeinError(
      "unsupported_model",
      `With 4 bits, widths are multiples of ${groupColumns}; the ${name} of this model is ${width}.`,
      { hint: "Convert it with 8 bits." },
    );
  }
}

function requireWhole(what: string, value: number, min: number, max: number, step = 1): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max && value % step === 0) return;
  const multiple = step === 1 ? "" : `, in steps of ${step}`;
  throw unsupported(`${what} ${value}; supported are ${min} to ${max}${multiple}`);
}

function unsupported(what: string): SkeinError {
  return new SkeinError("unsupported_model", `The exact engine cannot run this model: ${what}.`, {
    hint: "Serve it with --engine llama instead.",
  });
}
