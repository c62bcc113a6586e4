/**
 * Random models in integers: small enough for the reference, and absurd enough to reach every saturation. Whatever a container may hold,
 * some of them hold. The same seed gives the same model.
 */
import type { TensorRef } from "../formats/model-source.ts";
import { type Random, seededRandom } from "../util/random.ts";
import {
  type ExactModel,
  type ExactShape,
  groupColumns,
  type LayerRange,
  type Matrix,
  type NormWeights,
  type Quantization,
  qkvBits,
} from "./model/model.ts";
import { collectModel, isInRange, isNorm, type ModelSink, tensorsOf } from "./model/sink.ts";
import { tensorExtent } from "./model/weight-bytes.ts";

/** Chance in whole numbers. */
export interface Dice {
  /** Uniform from `min` to `max`, both included. */
  whole(min: number, max: number): number;
  pick<T>(from: readonly T[]): T;
  chance(probability: number): boolean;
}

export function diceOf(random: Random): Dice {
  const whole = (min: number, max: number): number => min + Math.floor(random.next() * (max - min + 1));
  return {
    whole,
    pick: (from) => from[whole(0, from.length - 1)]!,
    chance: (probability) => random.next() < probability,
  };
}

/**
 * How large a model's numbers are: `calm` as in real models, `wild` with some tensors beyond every reason, `aligned`
 * with everything as large as it may be and of one sign, so that sums come as near to overflowing as they can.
 */
export type Temper = "calm" | "wild" | "aligned";

const turnsMax: number = 2 ** 47;

export function randomShape(dice: Dice, given: Partial<ExactShape> = {}): ExactShape {
  const headDim = given.headDim ?? dice.pick([16, 16, 16, 32, 32, 48, 64, 80, 112, 128, 256]);
  const headsKv = given.headsKv ?? dice.pick([1, 1, 2, 3]);
  const heads = given.heads ?? headsKv * dice.whole(1, headDim > 64 ? 2 : 8);
  const dim = given.dim ?? 16 * dice.pick([1, 1, 3, 3, 5, 7, 9, 2, 8]);
  const hasQkNorm = given.hasQkNorm ?? dice.chance(0.4);
  return {
    layers: dice.whole(1, 3),
    dim,
    heads,
    headsKv,
    headDim,
    ffnDim: 16 * dice.pick([1, 3, 5, 11, 4]),
    vocabularySize: dice.pick([1, 2, 3, 5, 31, 34, 64]),
    contextTokensMax: dice.pick([1, 2, 7, 24, 40]),
    normEpsilon: randomEpsilon(dice, dim, 28),
    headNormEpsilon: hasQkNorm ? randomEpsilon(dice, headDim, 32) : 0,
    turns: randomTurns(dice, headDim / 2),
    hasTiedEmbeddings: dice.chance(0.5),
    hasQkvBias: dice.chance(0.4),
    hasQkNorm,
    ...given,
  };
}

/** The same with every width rounded up to whole groups. */
function wholeGroups(given: ExactShape): ExactShape {
  const widths = ["dim", "ffnDim", "headDim"] as const;
  const whole = widths.map((width) => [width, Math.ceil(given[width] / groupColumns) * groupColumns]);
  return { ...given, ...Object.fromEntries(whole) };
}

/** A shape that the quantization can do. */
export function randomShapeFor(
  quantization: Quantization,
  dice: Dice,
  given: Partial<ExactShape>,
): ExactShape {
  if (quantization === "int8-row") return randomShape(dice, given);
  const shape = wholeGroups(randomShape(dice, given));
  return { ...shape, turns: randomTurns(dice, shape.headDim / 2) };
}

function randomEpsilon(dice: Dice, n: number, fraction: number): number {
  return dice.pick([0, 1, Math.round(n * 1e-5 * 2 ** fraction), dice.whole(0, 2 ** 45), 2 ** 45]);
}

function randomTurns(dice: Dice, pairs: number): number[] {
  const usual = (i: number): number => Math.round(10_000 ** (-i / pairs) * (2 ** 48 / (2 * Math.PI)));
  const kind = dice.pick(["usual", "usual", "any", "ends"] as const);
  return Array.from({ length: pairs }, (_, i) => {
    if (kind === "usual") return usual(i);
    return kind === "any" ? dice.whole(0, turnsMax) : dice.pick([0, turnsMax, 1, 2 ** 24, 2 ** 24 - 1]);
  });
}

/** Gives every tensor of a random model of `shape` to `sink`. */
export async function makeModel(
  dice: Dice,
  shape: ExactShape,
  temper: Temper,
  sink: ModelSink,
  quantization: Quantization = "int8-row",
): Promise<void> {
  for (const tensor of tensorsOf(shape)) {
    if (isNorm(tensor.kind)) {
      const { columns } = tensorExtent(shape, quantization, tensor.kind);
      await sink.norm(tensor, randomNorm(dice, columns, temper));
    } else await sink.matrix(tensor, randomMatrix(dice, shape, quantization, tensor, temper));
  }
}

export async function randomModel(
  dice: Dice,
  shape: ExactShape,
  temper: Temper,
  quantization: Quantization = "int8-row",
): Promise<ExactModel> {
  const collected = collectModel(shape);
  await makeModel(dice, shape, temper, collected, quantization);
  return collected.model();
}

/** Gives the tensors of a model to a sink, as reading a container does. */
export async function giveModel(model: ExactModel, sink: ModelSink, range?: LayerRange): Promise<void> {
  const { shape } = model;
  for (const tensor of tensorsOf(shape)) {
    if (!isInRange(tensor, shape, range ?? model.range)) continue;
    const value =
      "layer" in tensor
        ? model.layers[tensor.layer - model.range.start]![tensor.kind as "q"]
        : model[tensor.kind as "embedding"]!;
    if (isNorm(tensor.kind)) await sink.norm(tensor, value as unknown as NormWeights);
    else await sink.matrix(tensor, value);
  }
}

/** The part of a model that the stage of `range` holds. */
export async function sliceModel(model: ExactModel, range: LayerRange): Promise<ExactModel> {
  const collected = collectModel(model.shape, range);
  await giveModel(model, collected, range);
  return collected.model();
}

type MatrixStyle = "usual" | "loud" | "quiet" | "full" | "aligned" | "zero" | "any";

function randomMatrix(
  dice: Dice,
  shape: ExactShape,
  quantization: Quantization,
  { kind }: TensorRef,
  temper: Temper,
): Matrix {
  const { rows, columns, hasBias, format } = tensorExtent(shape, quantization, kind);
  const style = styleOf(dice, kind, temper);
  // Rows whose weights are about 1 / √columns, and embeddings of about 1.
  // Values beyond saturation are those whose mantissas are largest.
  const shift = style === "aligned" ? dice.pick(kind === "v" ? [0, 10] : [-20, -6, 0, 10]) : 0;
  const usual = shift + (kind === "embedding" ? -21 : Math.round(-20.7 - Math.log2(columns) / 2));
  // Tokens of one sign: positions add up.
  const negative = kind === "embedding" ? -1 : 4;
  const isNegative = (row: number): boolean => row % 5 === negative;
  const multiplierBits = format === "int8-row" ? 15 : 13;
  // A weight times its scale reaches eight times as far, a multiplier a quarter.
  const middle = format === "int8-row" ? usual : usual - 1;
  const ofRows = (): Pick<Matrix, "rows" | "columns" | "multipliers" | "exponents" | "bias"> => ({
    rows,
    columns,
    multipliers: Int16Array.from({ length: rows }, () =>
      style === "full" || style === "aligned"
        ? 2 ** multiplierBits - 1
        : dice.whole(2 ** (multiplierBits - 1), 2 ** multiplierBits - 1),
    ),
    exponents: Int8Array.from({ length: rows }, () => exponentOf(dice, style, middle)),
    bias: hasBias ? randomBias(dice, rows, temper) : null,
  });
  if (format === "int8-row") {
    const weights = new Int8Array(rows * columns);
    if (style !== "zero") fillWeights(dice, weights, (i) => isNegative(Math.floor(i / columns)), style);
    return { format, weights, ...ofRows() };
  }
  const weights = new Uint8Array((rows * columns) / 2);
  const scales = new Int8Array((rows * columns) / groupColumns);
  const groups = columns / groupColumns;
  if (style !== "zero") {
    fillBytes(dice, weights, style);
    // Where weights are −8, a negative scale makes a row of positive ones.
    fillWeights(dice, scales, (i) => !isNegative(Math.floor(i / groups)), style);
  }
  return { format, weights, scales, ...ofRows() };
}

/** Two weights a byte; the largest product is that of −8 and ±127. */
function fillBytes(dice: Dice, weights: Uint8Array, style: MatrixStyle): void {
  for (let i = 0; i < weights.length; i++) {
    if (style === "aligned") weights[i] = 0x88;
    else weights[i] = style === "full" ? dice.pick([0x77, 0x87, 0x78, 0x88]) : dice.whole(0, 255);
  }
}

function styleOf(dice: Dice, kind: TensorRef["kind"], temper: Temper): MatrixStyle {
  if (temper === "aligned") {
    // Where all positions are equally near, attention's sums are largest.
    return (kind === "q" || kind === "k") && dice.chance(0.5) ? "zero" : "aligned";
  }
  if (temper === "calm" || dice.chance(0.6)) return "usual";
  return dice.pick(["loud", "quiet", "full", "zero", "any"]);
}

function fillWeights(
  dice: Dice,
  weights: Int8Array,
  isNegative: (index: number) => boolean,
  style: MatrixStyle,
): void {
  for (let i = 0; i < weights.length; i++) {
    if (style === "aligned") weights[i] = isNegative(i) ? -127 : 127;
    else weights[i] = style === "full" ? dice.pick([-127, 127]) : dice.whole(-127, 127);
  }
}

function exponentOf(dice: Dice, style: MatrixStyle, usual: number): number {
  switch (style) {
    case "loud":
      return usual + dice.whole(8, 30);
    case "quiet":
      return usual - dice.whole(6, 40);
    case "aligned":
      return usual;
    case "any":
      return dice.pick([dice.whole(-128, 127), dice.pick([-128, 127, 0])]);
    default:
      return usual + dice.whole(-2, 2);
  }
}

function randomBias(dice: Dice, rows: number, temper: Temper): Int32Array {
  const max = temper === "calm" || dice.chance(0.5) ? 2 ** 16 : 2 ** qkvBits - 1;
  return Int32Array.from({ length: rows }, () => dice.pick([dice.whole(-max, max), -max, max]));
}

function randomNorm(dice: Dice, columns: number, temper: Temper): NormWeights {
  const max = 2 ** 23 - 1;
  const style = normStyleOf(dice, temper);
  const mantissa = (): number => {
    if (style === "aligned") return max;
    if (style === "full") return dice.pick([-max, max]);
    if (style === "tiny") return dice.whole(-3, 3);
    if (style === "zero") return 0;
    return style === "any" ? dice.whole(-max, max) : dice.whole(2 ** 20, max);
  };
  return {
    mantissas: Int32Array.from({ length: columns }, mantissa),
    exponent:
      style === "any" ? dice.pick([dice.whole(-128, 127), dice.whole(-18, -4)]) : dice.whole(-23, -21),
  };
}

function normStyleOf(dice: Dice, temper: Temper): "usual" | "aligned" | "full" | "tiny" | "any" | "zero" {
  if (temper === "aligned") return "aligned";
  return temper === "calm" || dice.chance(0.6) ? "usual" : dice.pick(["full", "tiny", "any", "any", "zero"]);
}

/** Residual vectors as another stage may send them: up to ±(2^31 − 1), or zero. */
export function randomResidual(dice: Dice, dim: number): Int32Array {
  const bits = dice.pick([0, 3, 14, 16, 20, 31, 31]);
  const max = 2 ** bits - 1;
  const isAtEnds = dice.chance(0.3);
  return Int32Array.from({ length: dim }, () => (isAtEnds ? dice.pick([-max, max]) : dice.whole(-max, max)));
}

/** Random inputs for one sequence: tokens, or residual vectors where the range begins later. */
export function randomInputs(
  dice: Dice,
  shape: ExactShape,
  range: LayerRange,
  length: number,
): (number | Int32Array)[] {
  const one = (): number | Int32Array =>
    range.start === 0 ? dice.whole(0, shape.vocabularySize - 1) : randomResidual(dice, shape.dim);
  // Now and then the same again and again: then scores are alike.
  if (!dice.chance(0.15)) return Array.from({ length }, one);
  const input = one();
  return Array.from({ length }, () => input);
}

export function diceOfSeed(seed: number): Dice {
  return diceOf(seededRandom(seed));
}
