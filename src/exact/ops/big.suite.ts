/**
 * The operations once more, in big integers, written from the formulas in docs/EXACT.md and in the comments of
 * operations.ts, not from their code. `wide` marks every number that the reference holds in a double: it throws where
 * one reaches ±2^53, from where on doubles skip integers.
 */
import type { Matrix, NormWeights, RowMatrix } from "../model/model.ts";
import type { Block } from "./integers.ts";

export interface BigBlock {
  readonly mantissas: readonly bigint[];
  readonly exponent: bigint;
}

const big = (values: ArrayLike<number>): bigint[] => Array.from(values, BigInt);
export const abs = (v: bigint): bigint => (v < 0n ? -v : v);
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
export const bits = (v: bigint): bigint => (v === 0n ? 0n : BigInt(abs(v).toString(2).length));
const largestOf = (values: readonly bigint[]): bigint => values.reduce((a, b) => max(a, abs(b)), 0n);

/** A number that the reference computes exactly, or a violation of its bounds. */
export function wide(v: bigint, bitsMax = 53n): bigint {
  if (abs(v) >= 1n << bitsMax) throw new RangeError(`${v} has more than ${bitsMax} bits`);
  return v;
}

export function bigRoundShift(v: bigint, shift: bigint): bigint {
  return shift <= 0n ? v << -shift : (v + (1n << (shift - 1n))) >> shift;
}

export function bigSaturate(v: bigint, keep: bigint): bigint {
  const limit = (1n << keep) - 1n;
  if (v > limit) return limit;
  return v < -limit ? -limit : v;
}

/** What is scaled is smaller than 2^52, so that there is room for the half that rounding adds. */
export function bigScale(v: bigint, shift: bigint, keep: bigint): bigint {
  return bigSaturate(bigRoundShift(wide(v, 52n), shift), keep);
}

export function bigBlock(values: readonly bigint[], exponent: bigint, keep: bigint): BigBlock {
  const shift = max(0n, bits(largestOf(values)) - (keep - 1n));
  return { mantissas: values.map((v) => bigScale(v, shift, keep - 1n)), exponent: exponent + shift };
}

export function bigBlockOf({ mantissas, exponent }: Block): BigBlock {
  return { mantissas: big(mantissas), exponent: BigInt(exponent) };
}

/** Σ weight · x, times multiplier · 2^(row exponent + block exponent), with `fraction` fractional bits, plus bias. */
export function bigLinear(matrix: Matrix, x: BigBlock, fraction: bigint, keep: bigint): bigint[] {
  const { columns } = matrix;
  return Array.from({ length: matrix.rows }, (_, row) => {
    let sum = 0n;
    for (let i = 0; i < columns; i++) {
      sum = wide(sum + bigWeight(matrix, row * columns + i) * x.mantissas[i]!);
    }
    const exponent = BigInt(matrix.exponents[row]!) + x.exponent + fraction;
    const value = bigScale(sum * BigInt(matrix.multipliers[row]!), -exponent, keep);
    return matrix.bias === null ? value : bigSaturate(value + BigInt(matrix.bias[row]!), keep);
  });
}

/** With four bits: the weight times its group's scale. */
function bigWeight(matrix: Matrix, index: number): bigint {
  if (matrix.format === "int8-row") return BigInt(matrix.weights[index]!);
  const byte = BigInt(matrix.weights[Math.floor(index / 2)]!);
  const nibble = index % 2 === 0 ? byte % 16n : byte / 16n;
  return (nibble < 8n ? nibble : nibble - 16n) * BigInt(matrix.scales[Math.floor(index / 32)]!);
}

export function bigEmbed(matrix: RowMatrix, token: number, fraction: bigint, keep: bigint): bigint[] {
  const row = matrix.weights.subarray(token * matrix.columns, (token + 1) * matrix.columns);
  const exponent = BigInt(matrix.exponents[token]!) + fraction;
  return big(row).map((weight) => bigScale(weight * BigInt(matrix.multipliers[token]!), -exponent, keep));
}

export function bigSqrt(v: bigint): bigint {
  if (v < 2n) return v;
  // Newton's method from above.
  let root = 1n << ((bits(v) + 1n) / 2n);
  for (;;) {
    const next = (root + v / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** x · √n / √(Σ x² + ε), 20 fractional bits, times the weight. */
export function bigNorm(x: readonly bigint[], weights: readonly bigint[], epsilon: bigint): bigint[] {
  const drop = max(0n, bits(largestOf(x)) - 19n);
  const squares = x.reduce((sum, v) => wide(sum + wide((v >> drop) ** 2n)), wide(epsilon >> (2n * drop)));
  const sum = max(1n, squares);
  const lift = bits(sum) >= 52n ? 0n : ((52n - bits(sum)) / 2n) * 2n;
  const root = bigSqrt(wide(sum << lift));
  const rootOfCount = (bigSqrt(BigInt(x.length) << 42n) + 1n) >> 1n;
  const inverse = wide(rootOfCount << 22n) / root;
  const trim = max(0n, bits(inverse) - 21n);
  const factor = inverse >> trim;
  const shift = 22n - trim - lift / 2n + drop;
  return x.map((v, i) => wide(bigScale(v * factor, shift, 29n) * weights[i]!, 52n));
}

export function bigNormBlock(x: readonly bigint[], w: NormWeights, epsilon: bigint): BigBlock {
  return bigBlock(bigNorm(x, big(w.mantissas), epsilon), BigInt(w.exponent) - 20n, 14n);
}

export function bigNormHead(x: readonly bigint[], w: NormWeights, epsilon: bigint): bigint[] {
  const shift = 20n - BigInt(w.exponent) - 16n;
  return bigNorm(x, big(w.mantissas), epsilon).map((v) => bigScale(v, shift, 26n));
}

/** 2^−(distance / 1024) with 24 fractional bits, from the table of its fraction. */
export function bigExp2(distance: bigint, table: ArrayLike<number>): bigint {
  return bigRoundShift(BigInt(table[Number(distance & 1023n)]!), distance >> 10n);
}

export function bigAttend(
  query: BigBlock,
  keys: readonly BigBlock[],
  values: readonly BigBlock[],
  table: ArrayLike<number>,
): bigint[] {
  const scores = keys.map((key) => {
    const product = query.mantissas.reduce((sum, q, i) => wide(sum + q * key.mantissas[i]!), 0n);
    return bigScale(product, -(query.exponent + key.exponent + 10n), 31n);
  });
  const best = scores.reduce(max);
  const weights = scores.map((score) => bigExp2(wide(best - score), table));
  const total = weights.reduce((a, b) => wide(a + b));
  const exponent = values.map((value) => value.exponent).reduce(max);
  const trim = max(0n, bits(total) - 22n);
  const divisor = total >> trim;
  return query.mantissas.map((_, channel) => {
    const sum = values.reduce(
      (before, value, j) =>
        wide(before + wide((weights[j]! >> (exponent - value.exponent)) * value.mantissas[channel]!)),
      0n,
    );
    const dividend = wide((sum >> trim) << 12n);
    const [over, under] = [wide(2n * dividend + divisor), 2n * divisor];
    // Big integers divide towards zero, the operation towards minus infinity.
    const quotient = over / under - (over < 0n && over % under !== 0n ? 1n : 0n);
    return bigScale(quotient, -(exponent - 12n + 16n), 31n);
  });
}

/** What `gate` becomes: gate · sigmoid(gate), 12 fractional bits. */
export function bigSilu(value: bigint, sigmoid: ArrayLike<number>): bigint {
  const index = Number(abs(value) >> 4n);
  const positive = index < sigmoid.length ? BigInt(sigmoid[index]!) : 1n << 15n;
  return bigScale(value * (value < 0n ? (1n << 15n) - positive : positive), 15n, 26n);
}

export function bigGated(
  gate: readonly bigint[],
  up: readonly bigint[],
  sigmoid: ArrayLike<number>,
): BigBlock {
  const hidden = gate.map((value, i) => bigSilu(value, sigmoid) * up[i]!);
  return bigBlock(hidden, -24n, 14n);
}

/** Fraction of a turn after `position` steps, 32 bits. */
export function bigPhase(turn: bigint, position: bigint): bigint {
  return ((turn * position) & ((1n << 48n) - 1n)) >> 16n;
}

/** 2^15 · sine of a phase, linear between the table's entries. */
export function bigSine(phase: bigint, table: ArrayLike<number>): bigint {
  const half = phase >> 31n;
  const within = phase & ((1n << 31n) - 1n);
  // A half wave is a quarter and its mirror image.
  const forward = within <= 1n << 30n ? within : (1n << 31n) - within;
  const entry = Number(forward >> 20n);
  const from = BigInt(table[entry]!);
  const to = BigInt(table[Math.min(entry + 1, table.length - 1)]!);
  const between = bigRoundShift(wide((to - from) * (forward & 0xfffffn)), 20n);
  const sine = bigRoundShift(from + between, 15n);
  return half === 0n ? sine : -sine;
}

export function bigRotate(
  x: readonly bigint[],
  turns: readonly bigint[],
  position: bigint,
  table: ArrayLike<number>,
): bigint[] {
  const pairs = turns.length;
  const turned = turns.map((turn, i) => {
    const phase = bigPhase(turn, position);
    const sin = bigSine(phase, table);
    const cos = bigSine((phase + (1n << 30n)) & 0xffffffffn, table);
    const [a, b] = [x[i]!, x[i + pairs]!];
    return [bigScale(a * cos - b * sin, 15n, 27n), bigScale(b * cos + a * sin, 15n, 27n)] as const;
  });
  return [...turned.map(([a]) => a), ...turned.map(([, b]) => b)];
}

/** Philox4x32 with ten rounds (Salmon et al. 2011). */
export function bigPhilox(counter: readonly bigint[], key: readonly bigint[]): bigint[] {
  const mask = 0xffffffffn;
  let state = [...counter];
  for (let round = 0n; round < 10n; round++) {
    const [left, right] = [0xd2511f53n * state[0]!, 0xcd9e8d57n * state[2]!];
    const [k0, k1] = [(key[0]! + round * 0x9e3779b9n) & mask, (key[1]! + round * 0xbb67ae85n) & mask];
    state = [(right >> 32n) ^ state[1]! ^ k0, right & mask, (left >> 32n) ^ state[3]! ^ k1, left & mask];
  }
  return state;
}
