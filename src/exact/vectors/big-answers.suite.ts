/**
 * Answers to vectors/operations.json by big integers and the plain sampler, from what the file says and the
 * constant tables alone.
 */
import type { NormWeights, RowMatrix } from "../model/model.ts";
import {
  type BigBlock,
  bigAttend,
  bigBlock,
  bigEmbed,
  bigExp2,
  bigGated,
  bigLinear,
  bigNormBlock,
  bigNormHead,
  bigPhase,
  bigPhilox,
  bigRotate,
  bigRoundShift,
  bigSaturate,
  bigScale,
  bigSilu,
  bigSine,
  bigSqrt,
} from "../ops/big.suite.ts";
import { plainToken } from "../sampler/plain.suite.ts";
import type { SamplerParameters } from "../sampler/sampler.ts";
import { exp2Table, quarterSineTable, sigmoidTable } from "../ops/tables.ts";

interface JsonBlock {
  readonly mantissas: readonly number[];
  readonly exponent: number;
}

type Pairs = readonly (readonly [number, number])[];
interface SamplerCase extends Omit<SamplerParameters, "bias"> {
  readonly logits: number[];
  readonly bias: Pairs;
  readonly counts: Pairs;
  readonly position: number;
}

const all = (values: readonly number[]): bigint[] => values.map(BigInt);
const block = ({ mantissas, exponent }: JsonBlock): BigBlock => ({
  mantissas: all(mantissas),
  exponent: BigInt(exponent),
});

/** The case's fields are those of the file; what is given back must be its `result`, big integers for numbers. */
type Answer = (given: object) => unknown;
// A case's type is what the answer says it is.
const answer = (of: (given: never) => unknown): Answer => of as Answer;

export const bigAnswers: Readonly<Record<string, Answer>> = {
  philox: answer(({ counter, key }: { counter: number[]; key: number[] }) =>
    bigPhilox(all(counter), all(key)),
  ),
  roundShift: answer(({ v, shift }: { v: number; shift: number }) => bigRoundShift(BigInt(v), BigInt(shift))),
  scaleTo: answer(({ v, shift, bits }: { v: number; shift: number; bits: number }) =>
    bigScale(BigInt(v), BigInt(shift), BigInt(bits)),
  ),
  integerSqrt: answer(({ v }: { v: number }) => bigSqrt(BigInt(v))),
  toBlock: answer(({ values, exponent, bits }: { values: number[]; exponent: number; bits: number }) =>
    bigBlock(all(values), BigInt(exponent), BigInt(bits)),
  ),
  addSaturating: answer(({ a, b, bits }: { a: number[]; b: number[]; bits: number }) =>
    a.map((value, i) => bigSaturate(BigInt(value) + BigInt(b[i]!), BigInt(bits))),
  ),
  phaseOf: answer(({ turn, position }: { turn: number; position: number }) =>
    bigPhase(BigInt(turn), BigInt(position)),
  ),
  sineOf: answer(({ phase }: { phase: number }) => ({
    sine: bigSine(BigInt(phase), quarterSineTable),
    cosine: bigSine((BigInt(phase) + (1n << 30n)) % (1n << 32n), quarterSineTable),
  })),
  rotate: answer(({ x, turns, position }: { x: number[]; turns: number[]; position: number }) =>
    bigRotate(all(x), all(turns), BigInt(position), quarterSineTable),
  ),
  linear: answer(
    ({
      matrix,
      x,
      fraction,
      bits,
    }: {
      matrix: Omit<RowMatrix, "format">;
      x: JsonBlock;
      fraction: number;
      bits: number;
    }) => bigLinear({ ...matrix, format: "int8-row" }, block(x), BigInt(fraction), BigInt(bits)),
  ),
  embed: answer(({ matrix, token }: { matrix: Omit<RowMatrix, "format">; token: number }) => {
    const weights = Int8Array.from(matrix.weights);
    return bigEmbed({ ...matrix, format: "int8-row", weights }, token, 14n, 31n);
  }),
  rootOf: answer(({ n }: { n: number }) => (bigSqrt(BigInt(n) << 42n) + 1n) >> 1n),
  normToBlock: answer(({ x, weights, epsilon }: { x: number[]; weights: NormWeights; epsilon: number }) =>
    bigNormBlock(all(x), weights, BigInt(epsilon)),
  ),
  normHead: answer(({ x, weights, epsilon }: { x: number[]; weights: NormWeights; epsilon: number }) =>
    bigNormHead(all(x), weights, BigInt(epsilon)),
  ),
  exp2Of: answer(({ distance }: { distance: number }) => bigExp2(BigInt(distance), exp2Table)),
  attend: answer(({ query, keys, values }: { query: JsonBlock; keys: JsonBlock[]; values: JsonBlock[] }) =>
    bigAttend(block(query), keys.map(block), values.map(block), exp2Table),
  ),
  silu: answer(({ value }: { value: number }) => bigSilu(BigInt(value), sigmoidTable)),
  sampleToken: answer(({ logits, counts, position, ...given }: SamplerCase) =>
    plainToken(Int32Array.from(logits), { ...given, bias: new Map(given.bias) }, new Map(counts), position),
  ),
  gatedBlock: answer(({ gate, up }: { gate: number[]; up: number[] }) =>
    bigGated(all(gate), all(up), sigmoidTable),
  ),
};
