/** Random models through an executor and through the reference; for tests and for the benchmark of the same name. */
import type { Executor } from "./executor.ts";
import type { ExactModel, ExactShape, LayerRange, Quantization } from "./model/model.ts";
import {
  type Dice,
  diceOfSeed,
  randomInputs,
  randomModel,
  randomShapeFor,
  sliceModel,
  type Temper,
} from "./random-model.suite.ts";
import { createReferenceExecutor } from "./reference/executor.ts";
import { type Comparison, noComparison, replay, truthOf } from "./replay.suite.ts";

export interface MakeOptions {
  readonly contextTokensMax?: number;
  readonly rowsMax?: number;
}

const runsPerModel = 3;

/** Makes the executor under test for the part of a model that `model` holds. */
export type MakeExecutor = (
  model: ExactModel,
  options: MakeOptions,
) => Promise<Executor & { close?: () => void }>;

/** Shapes that random ones rarely are: each goes where a kernel changes its way. */
export const rareShapes: readonly Partial<ExactShape>[] = [
  // Rows longer than a piece of columns, and longer than what four lanes hold.
  { dim: 2_064, ffnDim: 16, headDim: 16, heads: 1, headsKv: 1, layers: 1, contextTokensMax: 3 },
  { dim: 16, ffnDim: 2_064, headDim: 16, heads: 1, headsKv: 1, layers: 1, contextTokensMax: 5 },
  { dim: 16, ffnDim: 8_208, headDim: 16, heads: 2, headsKv: 1, layers: 1, contextTokensMax: 3 },
  { dim: 16, ffnDim: 16_432, headDim: 16, heads: 1, headsKv: 1, layers: 1, contextTokensMax: 3 },
  // Attention's output as long as that.
  { dim: 16, ffnDim: 16, headDim: 256, heads: 9, headsKv: 3, layers: 1, contextTokensMax: 4 },
  // More positions than 32-bit lanes can sum up, more than once.
  {
    dim: 16,
    ffnDim: 16,
    headDim: 16,
    heads: 2,
    headsKv: 1,
    layers: 1,
    contextTokensMax: 150,
    hasQkvBias: false,
  },
  { dim: 16, ffnDim: 16, headDim: 256, heads: 1, headsKv: 1, layers: 1, contextTokensMax: 135 },
  // Every size of group.
  ...[1, 2, 3, 4, 5, 6, 7, 8].map((heads) => ({ heads, headsKv: 1, headDim: 16, dim: 48 })),
];

/** Compares one random model; everything about it follows from `seed`. */
export async function compareModel(
  seed: number,
  make: MakeExecutor,
  given: Partial<ExactShape> = {},
  givenTemper?: Temper,
  quantization: Quantization = "int8-row",
): Promise<Comparison> {
  const dice = diceOfSeed(seed);
  const shape = randomShapeFor(quantization, dice, given);
  const temper: Temper = givenTemper ?? dice.pick(["calm", "calm", "wild", "wild", "aligned"]);
  const whole = await randomModel(dice, shape, temper, quantization);
  // 1. The whole model, or what begins with a later layer: there any residual vector may come in.
  const range = randomRange(dice, shape.layers);
  const model = await sliceModel(whole, range);
  const { contextTokensMax } = shape;
  const inputs = Array.from({ length: dice.whole(1, 4) }, (_, i) =>
    randomInputs(dice, shape, range, i === 0 ? contextTokensMax : dice.whole(1, contextTokensMax)),
  );
  const truth = truthOf(createReferenceExecutor(model), inputs);
  // 2. In one piece or in stages, more than once: the reference takes most of the time.
  const sum = noComparison();
  for (let run = 0; run < runsPerModel; run++) {
    const stages: Awaited<ReturnType<MakeExecutor>>[] = [];
    for (const part of randomCut(dice, range)) {
      const rowsMax = dice.pick([1, 2, 3, 5, 8, 17, 64]);
      stages.push(await make(await sliceModel(model, part), { rowsMax }));
    }
    addComparison(sum, replay(stages, truth, dice));
    for (const stage of stages) stage.close?.();
  }
  return sum;
}

/**
 * Compares random models until `tokensMin` positions are done. Stops at the first difference; `seed` says where it was.
 */
export async function compareModels(
  firstSeed: number,
  tokensMin: number,
  make: MakeExecutor,
  quantization: Quantization = "int8-row",
): Promise<Comparison & { readonly models: number; readonly seed: number }> {
  const sum = noComparison();
  for (let seed = firstSeed; ; seed++) {
    addComparison(sum, await compareModel(seed, make, {}, undefined, quantization));
    const models = seed - firstSeed + 1;
    if (sum.tokens >= tokensMin || sum.differingBits > 0) return { ...sum, models, seed };
  }
}

function addComparison(sum: Comparison, one: Comparison): void {
  sum.tokens += one.tokens;
  sum.leaves += one.leaves;
  sum.outputs += one.outputs;
  sum.differingBits += one.differingBits;
}

function randomRange(dice: Dice, layers: number): LayerRange {
  if (dice.chance(0.7)) return { start: 0, end: layers };
  const start = dice.whole(0, layers - 1);
  return { start, end: dice.whole(start + 1, layers) };
}

function randomCut(dice: Dice, { start, end }: LayerRange): LayerRange[] {
  if (end - start === 1 || dice.chance(0.5)) return [{ start, end }];
  const middle = dice.whole(start + 1, end - 1);
  return [...randomCut(dice, { start, end: middle }), { start: middle, end }];
}
