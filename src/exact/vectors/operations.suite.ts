/**
 * What vectors/operations.json holds: for every operation inputs, at the ends of their ranges too, and what the reference
 * makes of them. Another implementation needs nothing else to know whether it is right.
 */
import { packResidual } from "../commitment/hidden.ts";
import { layerLeafBytes } from "../commitment/leaf.ts";
import type { NormWeights, RowMatrix } from "../model/model.ts";
import { type Block, integerSqrt, roundShift, scaleTo, toBlock } from "../ops/integers.ts";
import {
  addSaturating,
  attend,
  embed,
  exp2Of,
  gatedBlock,
  linear,
  normHead,
  normToBlock,
  rootOf,
  rotate,
  silu,
} from "../ops/operations.ts";
import { philox } from "../ops/philox.ts";
import { cosineOf, phaseOf, sineOf } from "../ops/rotation.ts";
import { exp2Table, gumbelTable, gumbelTailTable, quarterSineTable, sigmoidTable } from "../ops/tables.ts";
import { type Dice, diceOfSeed } from "../random-model.suite.ts";
import { sampleToken } from "../sampler/sampler.ts";
import { portableSha256 as sha256 } from "../commitment/portable-sha256.ts";
import { toHex } from "../../util/bytes.ts";

/** JSON as it is written: lists of cases by operation. */
export type OperationVectors = Record<string, readonly object[]>;

const residualMax: number = 2 ** 31 - 1;
const qkvMax: number = 2 ** 26 - 1;
const mantissaMax: number = 2 ** 23 - 1;
const listOf = (values: ArrayLike<number>): number[] => Array.from(values);
const blockOf = ({ mantissas, exponent }: Block): object => ({ mantissas: listOf(mantissas), exponent });

/** Numbers up to ±max, the ends and small ones often among them, sometimes all alike. */
function numbers(dice: Dice, length: number, max: number): number[] {
  const one = (): number =>
    dice.pick([dice.whole(-max, max), dice.whole(-max, max), dice.whole(-3, 3), max, -max, 0]);
  const same = dice.pick([max, -max, 0, 1]);
  return dice.chance(0.15) ? Array.from({ length }, () => same) : Array.from({ length }, one);
}

function randomBlock(dice: Dice, length: number, bits: number, exponent: number): Block {
  return { mantissas: Int16Array.from(numbers(dice, length, 2 ** (bits - 1) - 1)), exponent };
}

export function operationVectors(): OperationVectors {
  return {
    tables: tableVectors(),
    philox: philoxVectors(),
    ...integerVectors(diceOfSeed(1)),
    ...rotationVectors(diceOfSeed(2)),
    ...matrixVectors(diceOfSeed(3)),
    ...normVectors(diceOfSeed(4)),
    ...attentionVectors(diceOfSeed(5)),
    ...feedForwardVectors(diceOfSeed(6)),
    ...commitmentVectors(diceOfSeed(7)),
    sampleToken: samplerVectors(diceOfSeed(8)),
  };
}

/** SHA-256 of the entries as 32-bit integers, little-endian. */
function tableVectors(): object[] {
  const tables = {
    exp2Table,
    sigmoidTable,
    quarterSineTable,
    gumbelTable: gumbelTable(),
    gumbelTailTable: gumbelTailTable(),
  };
  return Object.entries(tables).map(([name, entries]) => {
    const bytes = new Uint8Array(4 * entries.length);
    const view = new DataView(bytes.buffer);
    for (const [i, entry] of entries.entries()) view.setInt32(4 * i, entry, true);
    return { name, entries: entries.length, sha256: toHex(sha256(bytes)) };
  });
}

function philoxVectors(): object[] {
  const inputs: [[number, number, number, number], [number, number]][] = [
    [
      [0, 0, 0, 0],
      [0, 0],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
    ],
    [
      [18_750, 41, 0, 0],
      [7, 0],
    ],
  ];
  return inputs.map(([counter, key]) => ({ counter, key, result: philox(counter, key) }));
}

function integerVectors(dice: Dice): OperationVectors {
  const wide = (): number => {
    const power = 2 ** dice.whole(0, 52);
    return (
      dice.pick([-1, 1]) * Math.min(2 ** 52 - 1, dice.pick([power, power - 1, Math.floor(power * 0.77)]))
    );
  };
  const shifts = [-3, 0, 1, 2, 13, 31, 51, 52, 53, 80];
  const halves = [1, -1, 3, -3, 5, 2 ** 51, -(2 ** 51), 2 ** 52 - 1, -(2 ** 52) + 1];
  const some = (count: number): number[] => Array.from({ length: count }, wide);
  return {
    roundShift: shifts.flatMap((shift) =>
      [...(shift < 0 ? [1, -1, 12_345] : halves), ...(shift < 0 ? [] : some(3))].map((v) => ({
        v,
        shift,
        result: roundShift(v, shift),
      })),
    ),
    scaleTo: [-200, -31, -30, -1, 0, 5, 20, 45].flatMap((shift) =>
      [0, 1, -1, ...some(3)].flatMap((v) =>
        [13, 26, 31].map((bits) => ({ v, shift, bits, result: scaleTo(v, shift, bits) })),
      ),
    ),
    integerSqrt: [0, 1, 2, 3, 2 ** 50 - 1, 2 ** 50, 2 ** 53 - 1, 94_906_265 ** 2, 94_906_265 ** 2 - 1].map(
      (v) => ({
        v,
        result: integerSqrt(v),
      }),
    ),
    toBlock: Array.from({ length: 12 }, (_, i) => {
      const values = numbers(dice, 9, [8_191, 8_192, 2 ** 27 - 1, 2 ** 44, 2 ** 52 - 1, 0][i % 6]!);
      const [exponent, bits] = [dice.whole(-40, 3), dice.pick([12, 14])];
      return { values, exponent, bits, result: blockOf(toBlock(values, exponent, bits)) };
    }),
    addSaturating: Array.from({ length: 2 }, () => {
      const [a, b] = [numbers(dice, 12, residualMax), numbers(dice, 12, residualMax)];
      return { a, b, bits: 31, result: listOf(addSaturating(Int32Array.from(a), Int32Array.from(b), 31)) };
    }),
  };
}

function rotationVectors(dice: Dice): OperationVectors {
  const turns = [0, 1, 2 ** 24 - 1, 2 ** 24, 44_798_133_900_843, 2 ** 47];
  const phases = [0, 1, 2 ** 20, 2 ** 30 - 1, 2 ** 30, 2 ** 31, 2 ** 31 + 1, 3 * 2 ** 30, 2 ** 32 - 1];
  return {
    phaseOf: turns.flatMap((turn) =>
      [0, 1, 4_095, 65_535].map((position) => ({ turn, position, result: phaseOf(turn, position) })),
    ),
    sineOf: [...phases, ...Array.from({ length: 24 }, () => dice.whole(0, 2 ** 32 - 1))].map((phase) => ({
      phase,
      result: { sine: sineOf(phase), cosine: cosineOf(phase) },
    })),
    rotate: Array.from({ length: 6 }, (_, i) => {
      const x = numbers(dice, 16, i === 0 ? 1_000 : qkvMax);
      const own = Array.from({ length: 8 }, () => dice.pick([...turns, dice.whole(0, 2 ** 47)]));
      const position = dice.pick([0, 1, dice.whole(0, 65_535), 65_535]);
      return { x, turns: own, position, result: listOf(rotate(Int32Array.from(x), own, position)) };
    }),
  };
}

function randomMatrix(dice: Dice, rows: number, columns: number, exponents: readonly number[]): RowMatrix {
  return {
    format: "int8-row",
    rows,
    columns,
    weights: Int8Array.from(numbers(dice, rows * columns, 127)),
    multipliers: Int16Array.from({ length: rows }, () =>
      dice.pick([2 ** 14, 2 ** 15 - 1, dice.whole(2 ** 14, 2 ** 15 - 1)]),
    ),
    exponents: Int8Array.from({ length: rows }, () => dice.pick(exponents)),
    bias: dice.chance(0.5) ? Int32Array.from(numbers(dice, rows, qkvMax)) : null,
  };
}

function matrixOf({ rows, columns, weights, multipliers, exponents, bias }: RowMatrix): object {
  return {
    rows,
    columns,
    weights: listOf(weights),
    multipliers: listOf(multipliers),
    exponents: listOf(exponents),
    bias: bias === null ? null : listOf(bias),
  };
}

function matrixVectors(dice: Dice): OperationVectors {
  const formats = [
    [16, 26],
    [12, 26],
    [14, 31],
    [12, 31],
  ] as const;
  return {
    linear: Array.from({ length: 12 }, (_, i) => {
      const matrix = randomMatrix(dice, 3, 32, i < 8 ? [-24, -23, -20, -27] : [-128, 127, -60, 0]);
      const x = randomBlock(dice, 32, 14, dice.whole(-14, 0));
      const [fraction, bits] = formats[i % 4]!;
      const result = listOf(linear(matrix, x, fraction, bits));
      return { matrix: matrixOf(matrix), x: blockOf(x), fraction, bits, result };
    }),
    embed: Array.from({ length: 4 }, (_, token) => {
      const matrix = { ...randomMatrix(dice, 4, 16, [-21, -12, -40, 127]), bias: null };
      return { matrix: matrixOf(matrix), token, result: listOf(embed(matrix, token, 14, 31)) };
    }),
  };
}

function randomNorm(dice: Dice, length: number, exponents: readonly number[]): NormWeights {
  return { mantissas: Int32Array.from(numbers(dice, length, mantissaMax)), exponent: dice.pick(exponents) };
}

function normVectors(dice: Dice): OperationVectors {
  const epsilons = [0, 1, 687_195, 2 ** 45];
  const normOf = ({ mantissas, exponent }: NormWeights): object => ({
    mantissas: listOf(mantissas),
    exponent,
  });
  return {
    rootOf: [16, 48, 64, 80, 128, 4_096, 16_384].map((n) => ({ n, result: rootOf(n) })),
    normToBlock: Array.from({ length: 16 }, (_, i) => {
      const x = numbers(dice, 48, [residualMax, 16_384, 2 ** 19, 1][i % 4]!);
      const weights = randomNorm(dice, 48, i < 12 ? [-22] : [-128, 127]);
      const epsilon = epsilons[Math.floor(i / 4)]!;
      const result = blockOf(normToBlock(Int32Array.from(x), weights, epsilon));
      return { x, weights: normOf(weights), epsilon, result };
    }),
    normHead: Array.from({ length: 8 }, (_, i) => {
      const x = numbers(dice, 16, i % 2 === 0 ? qkvMax : 65_536);
      const weights = randomNorm(dice, 16, i < 6 ? [-22, -20] : [-128, 127]);
      const epsilon = epsilons[i % 4]!;
      return {
        x,
        weights: normOf(weights),
        epsilon,
        result: listOf(normHead(Int32Array.from(x), weights, epsilon)),
      };
    }),
  };
}

function attentionVectors(dice: Dice): OperationVectors {
  const distances = [0, 1, 1_023, 1_024, 24 * 1_024, 25 * 1_024, 25 * 1_024 + 1, 26 * 1_024, 2 ** 32 - 2];
  return {
    exp2Of: [...distances, ...Array.from({ length: 12 }, () => dice.whole(0, 20_000))].map((distance) => ({
      distance,
      result: exp2Of(distance),
    })),
    attend: Array.from({ length: 14 }, (_, i) => {
      const count = [1, 2, 3, 5, 9][i % 5]!;
      // Scores of some units, or as far apart as they can be.
      const base = i < 8 ? -14 : -2;
      const blocks = (bits: number, many: number): Block[] =>
        Array.from({ length: many }, () => randomBlock(dice, 16, bits, dice.whole(base - 2, base + 2)));
      const [query] = blocks(12, 1);
      const [keys, values] = [blocks(14, count), blocks(14, count)];
      const result = listOf(attend(query!, keys, values));
      return { query: blockOf(query!), keys: keys.map(blockOf), values: values.map(blockOf), result };
    }),
  };
}

function feedForwardVectors(dice: Dice): OperationVectors {
  const values = [0, 1, -1, 15, 16, -16, 4_096, -4_096, 65_535, 65_536, -65_536, qkvMax, -qkvMax];
  return {
    silu: [...values, ...Array.from({ length: 24 }, () => dice.whole(-60_000, 60_000))].map((value) => ({
      value,
      result: silu(value),
    })),
    gatedBlock: Array.from({ length: 5 }, (_, i) => {
      const max = i % 2 === 0 ? 40_000 : qkvMax;
      const [gate, up] = [numbers(dice, 16, max), numbers(dice, 16, max)];
      return { gate, up, result: blockOf(gatedBlock(Int32Array.from(gate), Int32Array.from(up))) };
    }),
  };
}

function commitmentVectors(dice: Dice): OperationVectors {
  return {
    packResidual: [0, 1, 2_000, residualMax].map((max) => {
      const residual = numbers(dice, 48, max);
      return { residual, packed: toHex(packResidual(Int32Array.from(residual))) };
    }),
    layerLeafBytes: [false, true].map((hasKeyValues) => {
      const residual = numbers(dice, 16, residualMax);
      const blocks = (): Block[] =>
        Array.from({ length: 2 }, () => randomBlock(dice, 16, 14, dice.whole(-16, 2)));
      const [keys, values] = hasKeyValues ? [blocks(), blocks()] : [null, null];
      const kept = keys === null ? null : { keys, values };
      const bytes = toHex(layerLeafBytes(Int32Array.from(residual), kept));
      return { residual, keys: keys?.map(blockOf) ?? null, values: values?.map(blockOf) ?? null, bytes };
    }),
  };
}

function samplerVectors(dice: Dice): object[] {
  return Array.from({ length: 40 }, (_, i) => {
    const logits = Array.from({ length: 24 }, () =>
      i % 5 === 4 ? dice.pick([residualMax, -residualMax, 0]) : dice.whole(-20_000, 20_000),
    );
    const inverseTemperature = [65_536, 65_536, 93_623, 32_768, 0, 1, 2 ** 23][i % 7]!;
    const topK = dice.pick([0, 0, 1, 3, 24]);
    const topP = dice.pick([65_536, 65_536, 58_982, 32_768, 0]);
    const minP = dice.pick([0, 0, 3_277, 65_536]);
    const hasPenalties = dice.chance(0.5);
    const presencePenalty = hasPenalties ? dice.whole(-8_192, 8_192) : 0;
    const frequencyPenalty = hasPenalties ? dice.whole(-8_192, 8_192) : 0;
    const pairs = (max: number): [number, number][] =>
      hasPenalties ? [0, 1, 2].map((j) => [8 * j + dice.whole(0, 7), dice.whole(1, max)]) : [];
    const [bias, counts] = [pairs(20_000), pairs(9)];
    const key: [number, number] = [dice.whole(0, 2 ** 32 - 1), 0];
    const position = dice.whole(0, 65_535);
    const given = { inverseTemperature, topK, topP, minP, presencePenalty, frequencyPenalty, bias, key };
    const parameters = { ...given, bias: new Map(bias) };
    const result = sampleToken(Int32Array.from(logits), parameters, new Map(counts), position);
    return { logits, ...given, counts, position, result };
  });
}
