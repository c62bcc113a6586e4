import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { NormWeights, RowMatrix } from "../model/model.ts";
import {
  bigAttend,
  type BigBlock,
  bigBlock,
  bigBlockOf,
  bigEmbed,
  bigExp2,
  bigGated,
  bigLinear,
  bigNorm,
  bigNormBlock,
  bigNormHead,
  bigRotate,
  bigSaturate,
  bigSilu,
} from "./big.suite.ts";
import type { Block } from "./integers.ts";
import {
  addSaturating,
  attend,
  embed,
  exp2Of,
  gatedBlock,
  linear,
  normHead,
  normToBlock,
  rmsNorm,
  rootOf,
  rotate,
  silu,
  toCacheBlock,
} from "./operations.ts";
import { exp2Table, quarterSineTable, sigmoidTable } from "./tables.ts";

const residualMax = 2 ** 31 - 1;
const qkvMax = 2 ** 26 - 1;
const epsilonMax = 2 ** 45;
const mantissaMax = 2 ** 23 - 1;

/** Numbers up to ±limit, with the limit, zero and powers of two often among them. */
function upTo(limit: number): fc.Arbitrary<number> {
  const power = fc
    .tuple(fc.integer({ min: 0, max: Math.floor(Math.log2(limit)) }), fc.constantFrom(-1, 1))
    .map(([bits, sign]) => sign * 2 ** bits);
  return fc.oneof(fc.constantFrom(limit, -limit, 0), power, fc.integer({ min: -limit, max: limit }));
}

/** `length` such numbers, or `length` times the same. */
function vector(limit: number, length: number): fc.Arbitrary<number[]> {
  const mixed = fc.array(upTo(limit), { minLength: length, maxLength: length });
  return fc.oneof(
    mixed,
    upTo(limit).map((v) => Array.from({ length }, () => v)),
  );
}

const rowExponent = fc.oneof(fc.integer({ min: -40, max: -5 }), fc.integer({ min: -128, max: 127 }));

function matrixOf(rows: number, columns: number, weightMax = 127): fc.Arbitrary<RowMatrix> {
  return fc
    .record({
      weights: vector(weightMax, rows * columns),
      multipliers: fc.array(fc.integer({ min: 2 ** 14, max: 2 ** 15 - 1 }), {
        minLength: rows,
        maxLength: rows,
      }),
      exponents: fc.array(rowExponent, { minLength: rows, maxLength: rows }),
      bias: fc.option(vector(qkvMax, rows)),
    })
    .map(({ weights, multipliers, exponents, bias }) => ({
      format: "int8-row",
      rows,
      columns,
      weights: Int8Array.from(weights),
      multipliers: Int16Array.from(multipliers),
      exponents: Int8Array.from(exponents),
      bias: bias === null ? null : Int32Array.from(bias),
    }));
}

function blockOf(length: number, bits: number, exponent = rowExponent): fc.Arbitrary<Block> {
  return fc.record({
    mantissas: vector(2 ** (bits - 1) - 1, length).map((values) => Int16Array.from(values)),
    exponent,
  });
}

function normOf(length: number): fc.Arbitrary<NormWeights> {
  return fc.record({
    mantissas: vector(mantissaMax, length).map((values) => Int32Array.from(values)),
    exponent: fc.oneof(fc.integer({ min: -30, max: 0 }), fc.integer({ min: -128, max: 127 })),
  });
}

const big = (values: ArrayLike<number>): bigint[] => Array.from(values, BigInt);
const sameNumbers = (actual: ArrayLike<number>, expected: readonly bigint[]): void =>
  assert.deepEqual(big(actual), expected);
const sameBlock = (actual: Block, expected: BigBlock): void => assert.deepEqual(bigBlockOf(actual), expected);
const epsilons = fc.oneof(fc.constantFrom(0, 1, epsilonMax), fc.integer({ min: 0, max: epsilonMax }));

test("linear: the integers' sum, scaled once", () => {
  const formats = fc.constantFrom<[number, number]>([16, 26], [12, 26], [14, 31], [12, 31]);
  fc.assert(
    fc.property(matrixOf(3, 16), blockOf(16, 14), formats, (matrix, x, [fraction, bits]) => {
      const expected = bigLinear(matrix, bigBlockOf(x), BigInt(fraction), BigInt(bits));
      sameNumbers(linear(matrix, x, fraction, bits), expected);
    }),
    { numRuns: 500 },
  );
});

test("linear: 65,536 columns of the largest numbers stay exact", () => {
  const columns = 65_536;
  for (const [weight, mantissa] of [
    [127, 8191],
    [-127, 8191],
    [-127, -8191],
  ] as const) {
    const matrix: RowMatrix = {
      format: "int8-row",
      rows: 2,
      columns,
      weights: new Int8Array(2 * columns).fill(weight),
      multipliers: Int16Array.of(2 ** 15 - 1, 2 ** 15 - 1),
      exponents: Int8Array.of(-50, -20),
      bias: null,
    };
    const x = { mantissas: new Int16Array(columns).fill(mantissa), exponent: 0 };
    sameNumbers(linear(matrix, x, 14, 31), bigLinear(matrix, bigBlockOf(x), 14n, 31n));
  }
});

test("embed: one row as fixed-point numbers", () => {
  fc.assert(
    fc.property(matrixOf(3, 16), fc.integer({ min: 0, max: 2 }), (matrix, token) =>
      sameNumbers(embed(matrix, token, 14, 31), bigEmbed(matrix, token, 14n, 31n)),
    ),
    { numRuns: 500 },
  );
});

test("addSaturating: sums within ±(2^31 − 1)", () => {
  fc.assert(
    fc.property(vector(residualMax, 9), vector(residualMax, 9), (a, b) =>
      sameNumbers(
        addSaturating(Int32Array.from(a), Int32Array.from(b), 31),
        a.map((v, i) => bigSaturate(BigInt(v) + BigInt(b[i]!), 31n)),
      ),
    ),
  );
});

test("rootOf: the root of n with 20 fractional bits, to the nearest", () => {
  for (let n = 1; n <= 16_384; n += n < 300 ? 1 : 61) {
    const root = BigInt(rootOf(n));
    // Squares of the half-steps beside it enclose n · 2^42.
    assert.ok((2n * root - 1n) ** 2n <= BigInt(n) << 42n, `${n}`);
    assert.ok((2n * root + 1n) ** 2n > BigInt(n) << 42n, `${n}`);
  }
  assert.equal(rootOf(16_384), 2 ** 27);
});

test("norms: as the formula says, at every size", () => {
  const lengths = fc.constantFrom(16, 48, 80);
  const withLength = lengths.chain((length) =>
    fc.record({ x: vector(residualMax, length), w: normOf(length), epsilon: epsilons }),
  );
  fc.assert(
    fc.property(withLength, ({ x, w, epsilon }) => {
      const residual = Int32Array.from(x);
      sameNumbers(rmsNorm(residual, w, epsilon), bigNorm(big(x), big(w.mantissas), BigInt(epsilon)));
      sameBlock(normToBlock(residual, w, epsilon), bigNormBlock(big(x), w, BigInt(epsilon)));
    }),
    { numRuns: 500 },
  );
  const heads = fc.record({ x: vector(qkvMax, 16), w: normOf(16), epsilon: epsilons });
  fc.assert(
    fc.property(heads, ({ x, w, epsilon }) => {
      const expected = bigNormHead(big(x), w, BigInt(epsilon));
      sameNumbers(normHead(Int32Array.from(x), w, epsilon), expected);
    }),
    { numRuns: 500 },
  );
});

test("norms: 16,384 of the largest numbers and the largest epsilon stay exact", () => {
  const length = 16_384;
  const mantissas = new Int32Array(length).fill(mantissaMax);
  for (const x of [-residualMax, residualMax, -1, 1, 0, -(2 ** 19), 2 ** 19 - 1, 2 ** 19]) {
    for (const epsilon of [0, epsilonMax]) {
      for (const isLone of [false, true]) {
        const residual = isLone
          ? Int32Array.from({ length }, (_, i) => (i === 5 ? x : 0))
          : new Int32Array(length).fill(x);
        const w = { mantissas, exponent: -22 };
        const expected = bigNorm(big(residual), big(mantissas), BigInt(epsilon));
        assert.deepEqual(big(rmsNorm(residual, w, epsilon)), expected, `${x}, epsilon ${epsilon}`);
      }
    }
  }
});

test("norms: what comes out is x / rms(x) · w", () => {
  const w = { mantissas: new Int32Array(48).fill(2 ** 22), exponent: -22 };
  fc.assert(
    fc.property(vector(residualMax, 48), (x) => {
      const squares = x.reduce((sum, v) => sum + v * v, 0);
      fc.pre(squares > 0);
      const scale = Math.sqrt(48 / squares);
      for (const [i, value] of rmsNorm(Int32Array.from(x), w, 0).entries()) {
        const exact = x[i]! * scale;
        const actual = value / 2 ** 42;
        assert.ok(
          Math.abs(actual - exact) <= 2 ** -17 * Math.abs(exact) + 2 ** -20,
          `${actual}, not ${exact}`,
        );
      }
    }),
  );
});

test("rotate: by angles of any position, and no longer than it was", () => {
  const turn = fc.oneof(fc.constantFrom(0, 1, 2 ** 24, 2 ** 47), fc.integer({ min: 0, max: 2 ** 47 }));
  const inputs = fc.record({
    x: vector(qkvMax, 16),
    turns: fc.array(turn, { minLength: 8, maxLength: 8 }),
    position: fc.oneof(fc.constantFrom(0, 1, 65_535), fc.integer({ min: 0, max: 65_535 })),
  });
  fc.assert(
    fc.property(inputs, ({ x, turns, position }) => {
      const rotated = rotate(Int32Array.from(x), turns, position);
      sameNumbers(rotated, bigRotate(big(x), big(turns), BigInt(position), quarterSineTable));
      for (let i = 0; i < 8; i++) {
        const before = Math.hypot(x[i]!, x[i + 8]!);
        const after = Math.hypot(rotated[i]!, rotated[i + 8]!);
        assert.ok(Math.abs(after - before) <= 2 ** -14 * before + 1, `${before} became ${after}`);
      }
    }),
    { numRuns: 500 },
  );
});

test("exp2Of: powers of two at every distance of two scores", () => {
  const distances = fc.oneof(fc.integer({ min: 0, max: 40 * 1_024 }), fc.integer({ min: 0, max: 2 ** 32 }));
  fc.assert(
    fc.property(distances, (distance) => {
      assert.equal(BigInt(exp2Of(distance)), bigExp2(BigInt(distance), exp2Table));
      assert.ok(Math.abs(exp2Of(distance) - 2 ** (24 - distance / 1_024)) <= 1);
    }),
    { numRuns: 3_000 },
  );
  assert.equal(exp2Of(25 * 1_024), 1);
  assert.equal(exp2Of(25 * 1_024 + 1), 0);
});

/** Exponents as heads have them: their numbers are 27-bit ones with 16 fractional bits. */
const headExponent = fc.integer({ min: -16, max: 2 });

test("attend: as the formula says, also with scores far apart and values of different exponents", () => {
  const inputs = fc.tuple(fc.constantFrom(16, 32), fc.integer({ min: 1, max: 7 })).chain(([headDim, count]) =>
    fc.record({
      query: blockOf(headDim, 12, headExponent),
      keys: fc.array(blockOf(headDim, 14, headExponent), { minLength: count, maxLength: count }),
      values: fc.array(blockOf(headDim, 14, headExponent), { minLength: count, maxLength: count }),
    }),
  );
  fc.assert(
    fc.property(inputs, ({ query, keys, values }) => {
      const expected = bigAttend(bigBlockOf(query), keys.map(bigBlockOf), values.map(bigBlockOf), exp2Table);
      sameNumbers(attend(query, keys, values), expected);
    }),
    { numRuns: 500 },
  );
});

test("attend: 65,536 equal positions of the largest values stay exact", () => {
  const block = (mantissa: number): Block => ({ mantissas: new Int16Array(16).fill(mantissa), exponent: 2 });
  const query = block(2_047);
  const keys = Array.from({ length: 65_536 }, () => block(8_191));
  for (const mantissa of [8_191, -8_191]) {
    const values = keys.map(() => block(mantissa));
    const read = attend(query, keys, values);
    // The mean of equal values is that value, here 8191 · 2^2 with 16 fractional bits.
    assert.deepEqual(
      [...read],
      Array.from({ length: 16 }, () => mantissa * 2 ** 18),
    );
    // Two channels are enough for the bounds of every intermediate.
    const two = (of: Block): BigBlock => bigBlockOf({ ...of, mantissas: of.mantissas.subarray(0, 2) });
    const expected = bigAttend(two(query), keys.map(two), values.map(two), exp2Table);
    assert.deepEqual(expected, big(read.subarray(0, 2)));
  }
});

test("attend: what comes out is the softmax to the base 2 of the scores, times the values", () => {
  const exponents = fc.integer({ min: -16, max: -10 });
  const blocks = (bits: number, count: number): fc.Arbitrary<Block[]> =>
    fc.array(blockOf(16, bits, exponents), { minLength: count, maxLength: count });
  fc.assert(
    fc.property(blocks(12, 1), blocks(14, 5), blocks(14, 5), ([query], keys, values) => {
      const real = ({ mantissas, exponent }: Block): number[] =>
        Array.from(mantissas, (m) => m * 2 ** exponent);
      const q = real(query!);
      const scores = keys.map((key) => real(key).reduce((sum, k, i) => sum + k * q[i]!, 0));
      const weights = scores.map((score) => 2 ** (score - Math.max(...scores)));
      const total = weights.reduce((a, b) => a + b, 0);
      const largest = Math.max(...values.flatMap((value) => real(value).map(Math.abs)));
      for (const [i, value] of attend(query!, keys, values).entries()) {
        const exact = values.reduce((sum, of, j) => sum + (weights[j]! / total) * real(of)[i]!, 0);
        const off = Math.abs(value / 2 ** 16 - exact);
        assert.ok(off <= largest * 2 ** -10 + 2 ** -16, `${value / 2 ** 16}, not ${exact}`);
      }
    }),
  );
});

test("silu and the gate: as the formula says, up to 26 bits", () => {
  for (let value = -70_000; value <= 70_000; value += 7) {
    assert.equal(BigInt(silu(value)), bigSilu(BigInt(value), sigmoidTable));
    const x = value / 4_096;
    const exact = 4_096 * (x / (1 + Math.exp(-x)));
    assert.ok(Math.abs(silu(value) - exact) <= 3, `${silu(value)}, not ${exact}`);
  }
  assert.equal(silu(qkvMax), qkvMax);
  assert.equal(silu(-qkvMax), 0);
  fc.assert(
    fc.property(vector(qkvMax, 16), vector(qkvMax, 16), (gate, up) =>
      sameBlock(
        gatedBlock(Int32Array.from(gate), Int32Array.from(up)),
        bigGated(big(gate), big(up), sigmoidTable),
      ),
    ),
    { numRuns: 500 },
  );
});

test("keys and values are kept with 14 bits", () => {
  fc.assert(
    fc.property(vector(2 ** 27 - 1, 16), (x) =>
      sameBlock(toCacheBlock(Int32Array.from(x)), bigBlock(big(x), -16n, 14n)),
    ),
  );
});
