/**
 * A massive activation, as trained models have on their first or delimiting tokens: one feed-forward unit fires on one
 * token only and writes huge values into two channels of the residual stream, which later norms weigh down.
 *
 * This changes the model: later layers see next to nothing else of that token. The channels and the unit are those that
 * matter least, so that the model stays sane.
 */
import type { ModelSource } from "../../src/formats/model-source.ts";
import { openFloatParent } from "./float-parent.ts";
import { replaceColumn, replaceRow, scaleColumns, type TensorEdit, withEdits } from "./outliers.ts";

export interface MassiveToken {
  readonly tokenId: number;
  /** Texts with that token, from which the unit learns to tell it from others. */
  readonly samples: readonly (readonly number[])[];
}

const massiveLayer = 1;
/** What the unit writes into the two channels. */
const writes = [3000, -1400] as const;
const normDivisor = 1000;
/** The unit's gate on the token; its sigmoid lets nothing through at minus half of it. */
const gateOnToken = 40;
/** Of the mean square of an input channel, against directions that the samples do not show. */
const ridge = 1e-3;

export async function withMassiveToken(
  source: ModelSource,
  options: MassiveToken,
  signal: AbortSignal,
): Promise<ModelSource> {
  const { shape } = source;
  // 1. What the model does on the samples.
  const seen = await observe(source, options, signal);
  const down = await source.readRows({ kind: "down", layer: massiveLayer }, 0, shape.dim, signal);
  const unit = leastOf(
    seen.hiddenSquares.map((square, i) => square * columnSquare(down, shape.ffnDim, i)),
    1,
  )[0]!;
  const channels = leastOf(seen.laterSquares, writes.length);
  // 2. A direction on which the token is 1 and others are -1, as nearly as can be.
  const direction = discriminant(seen.inputs, seen.isToken);
  const onToken = meanOf(seen.inputs.filter((_, i) => seen.isToken[i]).map((x) => dot(direction, x)));
  // 3. silu(gate) * up on the token, and what has to be written of it.
  const scaled = (factor: number): Float64Array => direction.map((x) => x * factor);
  const hidden = (gateOnToken / (1 + Math.exp(-gateOnToken))) * 1;
  const column = new Float64Array(shape.dim);
  writes.forEach((value, i) => (column[channels[i]!] = value / hidden));
  const layer = massiveLayer;
  const edits: TensorEdit[] = [
    { tensor: { kind: "gate", layer }, edit: replaceRow(unit, scaled(gateOnToken / onToken)) },
    { tensor: { kind: "up", layer }, edit: replaceRow(unit, scaled(1 / onToken)) },
    { tensor: { kind: "down", layer }, edit: replaceColumn(unit, column) },
    { tensor: { kind: "outputNorm" }, edit: scaleColumns(channels, 1 / normDivisor) },
  ];
  for (let later = massiveLayer + 1; later < shape.layers; later++) {
    for (const kind of ["attnNorm", "ffnNorm"] as const) {
      edits.push({ tensor: { kind, layer: later }, edit: scaleColumns(channels, 1 / normDivisor) });
    }
  }
  return withEdits(source, edits);
}

interface Observed {
  /** Inputs of the feed-forward part of the massive layer, and whether the token stands there. */
  readonly inputs: Float64Array[];
  readonly isToken: boolean[];
  /** Mean squares, up to a common factor: of that layer's hidden units, and of channels in later norms. */
  readonly hiddenSquares: number[];
  readonly laterSquares: number[];
}

async function observe(
  source: ModelSource,
  { tokenId, samples }: MassiveToken,
  signal: AbortSignal,
): Promise<Observed> {
  const { shape } = source;
  const parent = await openFloatParent(source, signal);
  const seen: Observed = {
    inputs: [],
    isToken: [],
    hiddenSquares: Array.from({ length: shape.ffnDim }, () => 0),
    laterSquares: Array.from({ length: shape.dim }, () => 0),
  };
  for (const tokenIds of samples) {
    parent.logits(tokenIds, ({ point, layer, position, values }) => {
      if (point === "ffnInput" && layer === massiveLayer) {
        seen.inputs.push(values.slice());
        seen.isToken.push(tokenIds[position] === tokenId);
      } else if (point === "ffnHidden" && layer === massiveLayer) {
        values.forEach((value, i) => (seen.hiddenSquares[i]! += value ** 2));
      } else if ((point.endsWith("Input") && layer > massiveLayer) || point === "outputInput") {
        values.forEach((value, i) => (seen.laterSquares[i]! += value ** 2));
      }
    });
  }
  return seen;
}

/** Ridge regression without an intercept, which the unit has not either; both classes weigh the same. */
function discriminant(inputs: readonly Float64Array[], isToken: readonly boolean[]): Float64Array {
  const size = inputs[0]!.length;
  const positives = isToken.filter(Boolean).length;
  if (positives === 0 || positives === inputs.length)
    throw new Error("the samples lack the token, or others");
  const matrix = Array.from({ length: size }, () => new Float64Array(size));
  const target = new Float64Array(size);
  inputs.forEach((x, n) => {
    const weight = 1 / (isToken[n] ? positives : inputs.length - positives);
    for (let i = 0; i < size; i++) {
      target[i]! += weight * x[i]! * (isToken[n] ? 1 : -1);
      for (let j = 0; j <= i; j++) matrix[i]![j]! += weight * x[i]! * x[j]!;
    }
  });
  const trace = matrix.reduce((sum, row, i) => sum + row[i]!, 0);
  matrix.forEach((row, i) => (row[i]! += (ridge * trace) / size));
  return solve(matrix, target);
}

/** Cholesky's method; only the lower triangle is read, and it is overwritten. */
function solve(lower: readonly Float64Array[], target: Float64Array): Float64Array {
  const size = target.length;
  const x = target.slice();
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = lower[i]![j]!;
      for (let k = 0; k < j; k++) sum -= lower[i]![k]! * lower[j]![k]!;
      lower[i]![j] = i === j ? Math.sqrt(sum) : sum / lower[j]![j]!;
    }
  }
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < i; k++) x[i]! -= lower[i]![k]! * x[k]!;
    x[i]! /= lower[i]![i]!;
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++) x[i]! -= lower[k]![i]! * x[k]!;
    x[i]! /= lower[i]![i]!;
  }
  return x;
}

function leastOf(values: readonly number[], count: number): number[] {
  return values
    .map((value, i) => ({ value, i }))
    .toSorted((a, b) => a.value - b.value)
    .slice(0, count)
    .map(({ i }) => i);
}

function columnSquare(matrix: Float32Array, columns: number, column: number): number {
  let sum = 0;
  for (let at = column; at < matrix.length; at += columns) sum += matrix[at]! ** 2;
  return sum;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
