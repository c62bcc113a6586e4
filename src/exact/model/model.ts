/** A model in integers: what every executor runs, and what the manifest commits to. */

/** Everything besides the weights that the arithmetic depends on. */
export interface ExactShape {
  readonly layers: number;
  /** Width of the residual stream. */
  readonly dim: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly headDim: number;
  readonly ffnDim: number;
  readonly vocabularySize: number;
  readonly contextTokensMax: number;
  /** round(n · epsilon · 2^28) of the norms over `dim`, see `rmsNorm`. */
  readonly normEpsilon: number;
  /** round(n · epsilon · 2^32) of the norms over a head; 0 without them. */
  readonly headNormEpsilon: number;
  /** Turns per position of each rotary pair in 2^−48, `headDim / 2` of them. */
  readonly turns: readonly number[];
  readonly hasTiedEmbeddings: boolean;
  readonly hasQkvBias: boolean;
  readonly hasQkNorm: boolean;
}

/** How a model's matrices are rounded; embedding and output have 8 bits in both. */
export type Quantization = "int8-row" | "int4-group32";

interface MatrixRows {
  readonly rows: number;
  readonly columns: number;
  readonly multipliers: Int16Array;
  readonly exponents: Int8Array;
  /** Added to each row's result, in its fixed-point format; null: none. */
  readonly bias: Int32Array | null;
}

/** Row j is `weights[j · columns + k] · multipliers[j] · 2^exponents[j]`, multipliers being 2^14 … 2^15 − 1. */
export interface RowMatrix extends MatrixRows {
  readonly format: "int8-row";
  /** −127 … 127, row by row. */
  readonly weights: Int8Array;
}

/**
 * Row j is `q[j, k] · scales[j · columns / 32 + ⌊k / 32⌋] · multipliers[j] · 2^exponents[j]`, multipliers being
 * 2^12 … 2^13 − 1.
 */
export interface GroupMatrix extends MatrixRows {
  readonly format: "int4-group32";
  /** q, −8 … 7 in two's complement, two per byte, row by row: of each byte the lower half comes first. */
  readonly weights: Uint8Array;
  /** −127 … 127; with a sign, because q reaches further below zero than above. */
  readonly scales: Int8Array;
}

export type Matrix = RowMatrix | GroupMatrix;

/** Columns that share a scale. */
export const groupColumns = 32;

/** Weights of an RMSNorm: `mantissas[i] · 2^exponent`, |mantissa| < 2^23. */
export interface NormWeights {
  readonly mantissas: Int32Array;
  readonly exponent: number;
}

export interface ExactLayer {
  readonly attnNorm: NormWeights;
  /** Scaled so that a score is a power of two: times log2(e) / √headDim. */
  readonly q: Matrix;
  readonly k: Matrix;
  readonly v: Matrix;
  readonly qNorm: NormWeights | null;
  readonly kNorm: NormWeights | null;
  readonly attnOutput: Matrix;
  readonly ffnNorm: NormWeights;
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
}

/** Layers `[start, end)` of a model; with 0 comes the embedding, with the last one the output. */
export interface LayerRange {
  readonly start: number;
  readonly end: number;
}

/** The part of a model that one stage holds; the whole one as a rule. */
export interface ExactModel {
  readonly shape: ExactShape;
  readonly range: LayerRange;
  /** Those of the range, in order. */
  readonly layers: readonly ExactLayer[];
  /** With the first layer, and with the last one where it is the output matrix too. */
  readonly embedding: RowMatrix | null;
  /** With the last layer. */
  readonly outputNorm: NormWeights | null;
  /** With the last layer, unless it is the embedding. */
  readonly output: RowMatrix | null;
}

/** Fractional bits of fixed-point values; see docs/EXACT.md. */
export const residualFraction = 14;
export const qkvFraction = 16;
export const ffnFraction = 12;
export const logitFraction = 12;
/** Largest size of fixed-point values in bits. */
export const residualBits = 31;
export const qkvBits = 26;
export const ffnBits = 26;
export const logitBits = 31;
/** Bits of block mantissas: what enters a matrix, keys and values, and queries. */
export const activationBits = 14;
export const keyBits = 14;
export const queryBits = 12;
/** Fractional bits of a score, a logarithm to the base 2. */
export const scoreFraction = 10;
