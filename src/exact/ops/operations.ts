/**
 * The operations of a decoder layer, one function each, as docs/EXACT.md defines them. They are written to be read;
 * `wasm/` computes the same bits quickly.
 */
import {
  bitLength,
  type Block,
  floorShift,
  integerSqrt,
  roundShift,
  saturate,
  scaleTo,
  toBlock,
} from "./integers.ts";
import { exp2Entries, exp2Table, sigmoidEntries, sigmoidTable } from "./tables.ts";
import { cosineOf, phaseOf, sineOf } from "./rotation.ts";
import {
  activationBits,
  ffnBits,
  ffnFraction,
  groupColumns,
  type GroupMatrix,
  keyBits,
  type Matrix,
  type NormWeights,
  qkvBits,
  qkvFraction,
  type RowMatrix,
  scoreFraction,
} from "../model/model.ts";

/**
 * Matrix times vector: `rows` values with `fraction` fractional bits, within ±(2^bits − 1).
 * The sum is the mathematical integer: at most 2^7 · 2^13 · columns, with 4 bits 2^10 · 2^13 · columns.
 */
export function linear(matrix: Matrix, x: Block, fraction: number, bits: number): Int32Array {
  return Int32Array.from({ length: matrix.rows }, (_, row) => linearRow(matrix, row, x, fraction, bits));
}

export function linearRow(matrix: Matrix, row: number, x: Block, fraction: number, bits: number): number {
  const { multipliers, exponents, bias } = matrix;
  const sum = matrix.format === "int8-row" ? sumOfRow(matrix, row, x) : sumOfGroups(matrix, row, x);
  const shift = -(exponents[row]! + x.exponent + fraction);
  const value = scaleTo(sum * multipliers[row]!, shift, bits);
  return bias === null ? value : saturate(value + bias[row]!, bits);
}

function sumOfRow({ columns, weights }: RowMatrix, row: number, { mantissas }: Block): number {
  let sum = 0;
  for (let i = 0; i < columns; i++) sum += weights[row * columns + i]! * mantissas[i]!;
  return sum;
}

function sumOfGroups(matrix: GroupMatrix, row: number, { mantissas }: Block): number {
  const { columns, scales } = matrix;
  let sum = 0;
  for (let from = 0; from < columns; from += groupColumns) {
    let group = 0;
    for (let i = from; i < from + groupColumns; i++) {
      group += fourBitWeight(matrix, row * columns + i) * mantissas[i]!;
    }
    sum += group * scales[(row * columns + from) / groupColumns]!;
  }
  return sum;
}

/** −8 … 7. */
export function fourBitWeight({ weights }: GroupMatrix, index: number): number {
  const byte = weights[index >> 1]!;
  return (index % 2 === 0 ? byte << 28 : byte << 24) >> 28;
}

/** One row of the embedding as a residual vector. */
export function embed(matrix: RowMatrix, token: number, fraction: number, bits: number): Int32Array {
  const { columns, weights, multipliers, exponents } = matrix;
  const shift = -(exponents[token]! + fraction);
  return Int32Array.from({ length: columns }, (_, i) =>
    scaleTo(weights[token * columns + i]! * multipliers[token]!, shift, bits),
  );
}

export function addSaturating(a: Int32Array, b: Int32Array, bits: number): Int32Array {
  return a.map((value, i) => saturate(value + b[i]!, bits));
}

/**
 * x / rms(x) · w (Zhang, Sennrich 2019), with 20 − w.exponent fractional bits. `epsilon` is
 * round(n · ε · 4^fraction) for x with `fraction` fractional bits, n = x.length ≤ 16,384.
 */
export function rmsNorm(x: ArrayLike<number>, w: NormWeights, epsilon: number): Float64Array {
  const n = x.length;
  let largest = 0;
  for (let i = 0; i < n; i++) largest = Math.max(largest, Math.abs(x[i]!));
  // Squares of at most 19 bits and a sign: their sum stays below 2^53.
  const drop = Math.max(0, bitLength(largest) - 19);
  let sum = floorShift(epsilon, 2 * drop);
  for (let i = 0; i < n; i++) {
    const size = floorShift(x[i]!, drop);
    sum += size * size;
  }
  sum = Math.max(1, sum);
  // An even power of two brings the root to 25 bits at least.
  const lift = Math.max(0, Math.floor((52 - bitLength(sum)) / 2) * 2);
  const root = integerSqrt(sum * 2 ** lift);
  const inverse = Math.floor((rootOf(n) * 2 ** 22) / root);
  const trim = Math.max(0, bitLength(inverse) - 21);
  const factor = floorShift(inverse, trim);
  const shift = 22 - trim - lift / 2 + drop;
  return Float64Array.from({ length: n }, (_, i) => scaleTo(x[i]! * factor, shift, 29) * w.mantissas[i]!);
}

/** round(√n · 2^20), halves upwards: the nearest to the root of n · 2^40 by its half-steps, 2 · √n · 2^20. */
export function rootOf(n: number): number {
  const doubled = integerSqrtOfBig(BigInt(n) << 42n);
  return Number((doubled + 1n) >> 1n);
}

function integerSqrtOfBig(v: bigint): bigint {
  let root = BigInt(Math.floor(Math.sqrt(Number(v))));
  while (root * root > v) root -= 1n;
  while ((root + 1n) * (root + 1n) <= v) root += 1n;
  return root;
}

/** RMSNorm of a residual vector, ready for a matrix. */
export function normToBlock(x: Int32Array, w: NormWeights, epsilon: number): Block {
  return toBlock(rmsNorm(x, w, epsilon), w.exponent - 20, activationBits);
}

/** RMSNorm of one head's query or key, back in their fixed-point format. */
export function normHead(x: Int32Array, w: NormWeights, epsilon: number): Int32Array {
  const shift = 20 - w.exponent - qkvFraction;
  return Int32Array.from(rmsNorm(x, w, epsilon), (value) => scaleTo(value, shift, qkvBits));
}

/** Rotates the pairs (i, i + headDim / 2) of one head by the angles of its position. */
export function rotate(x: Int32Array, turns: readonly number[], position: number): Int32Array {
  const pairs = turns.length;
  const rotated = new Int32Array(2 * pairs);
  for (let i = 0; i < pairs; i++) {
    const phase = phaseOf(turns[i]!, position);
    const [cos, sin] = [cosineOf(phase), sineOf(phase)];
    const [a, b] = [x[i]!, x[i + pairs]!];
    rotated[i] = scaleTo(a * cos - b * sin, 15, 27);
    rotated[i + pairs] = scaleTo(b * cos + a * sin, 15, 27);
  }
  return rotated;
}

/** 2^(−distance / 1024) with 24 fractional bits; the distance is that of two scores, ≥ 0. */
export function exp2Of(distance: number): number {
  return roundShift(exp2Table[distance % exp2Entries]!, Math.floor(distance / exp2Entries));
}

/**
 * Attention of one query head over the keys and values of all positions so far (Vaswani et al. 2017).
 * Returns `headDim` values with `qkvFraction` fractional bits.
 */
export function attend(query: Block, keys: readonly Block[], values: readonly Block[]): Int32Array {
  // 1. Scores, as powers of two.
  const scores = keys.map((key) => {
    let product = 0;
    for (let i = 0; i < key.mantissas.length; i++) product += query.mantissas[i]! * key.mantissas[i]!;
    return scaleTo(product, -(query.exponent + key.exponent + scoreFraction), 31);
  });
  // 2. Weights relative to the largest one.
  const best = scores.reduce((a, b) => Math.max(a, b));
  const weights = scores.map((score) => exp2Of(best - score));
  const total = weights.reduce((a, b) => a + b);
  // 3. The weighted sum of values, at the largest exponent among them.
  const exponent = values.reduce((a, b) => Math.max(a, b.exponent), values[0]!.exponent);
  const headDim = query.mantissas.length;
  const sums = new Float64Array(headDim);
  for (const [j, { mantissas, exponent: own }] of values.entries()) {
    const weight = floorShift(weights[j]!, exponent - own);
    for (let i = 0; i < headDim; i++) sums[i]! += weight * mantissas[i]!;
  }
  // 4. Division by the sum of weights, rounded to 12 more bits.
  const trim = Math.max(0, bitLength(total) - 22);
  const divisor = floorShift(total, trim);
  return Int32Array.from(sums, (sum) => {
    const dividend = floorShift(sum, trim) * 2 ** 12;
    const quotient = Math.floor((2 * dividend + divisor) / (2 * divisor));
    return scaleTo(quotient, -(exponent - 12 + qkvFraction), 31);
  });
}

/** SwiGLU (Shazeer 2020): gate · sigmoid(gate) · up, with 24 fractional bits, ready for a matrix. */
export function gatedBlock(gate: Int32Array, up: Int32Array): Block {
  const hidden = Float64Array.from(gate, (value, i) => silu(value) * up[i]!);
  return toBlock(hidden, -2 * ffnFraction, activationBits);
}

/** value · sigmoid(value), 12 fractional bits in and out. */
export function silu(value: number): number {
  const index = Math.floor(Math.abs(value) / 16);
  const positive = index < sigmoidEntries ? sigmoidTable[index]! : 2 ** 15;
  return scaleTo(value * (value < 0 ? 2 ** 15 - positive : positive), 15, ffnBits);
}

/** A head's key or value as it is kept. */
export function toCacheBlock(x: Int32Array): Block {
  return toBlock(x, -qkvFraction, keyBits);
}
