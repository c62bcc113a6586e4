/** Where the kernels keep what lives for one step. */
import { layerLeafLength, layerLeafTag } from "../commitment/leaf.ts";
import type { ExactShape } from "../model/model.ts";
import { cosineOf, phaseOf, sineOf } from "../ops/rotation.ts";
import type { KernelMemory } from "./kernels.ts";

/** Of `matmul`: 4 · 2048 16-bit weights, or four sums of 2048 groups; and four 64-bit sums a token. */
const pieceBytes: number = 4 * 4 * 2_048;
const sumBytes = 32;
/** Vectors begin at multiples of 16 bytes; the last byte before them is the tag. */
const tagRoom = 16;

/** Rows whose logits are computed together; a vocabulary may be large. */
export const logitRowsMax = 16;

/** Bytes of one position's angles: cosine and sine of each pair, 32 bits each. */
export function angleBytes(headDim: number): number {
  return 4 * headDim;
}

/** Addresses; each vector is followed by those of the other rows. */
export class Workspace {
  /** Blocks that enter a matrix: 16-bit mantissas, and 32-bit exponents. */
  readonly x: number;
  readonly xExponents: number;
  readonly y: number;
  readonly q: number;
  readonly k: number;
  readonly v: number;
  readonly gate: number;
  readonly up: number;
  readonly logits: number;
  /** Block of one query. */
  readonly query: number;
  readonly angles: number;
  /** One vector of 64-bit numbers. */
  readonly wide: number;
  readonly scratch: number;
  readonly attention: number;
  readonly #residuals: number;
  readonly #residualStride: number;

  constructor(memory: KernelMemory, shape: ExactShape, rowsMax: number, contextTokensMax: number) {
    const { dim, ffnDim, heads, headsKv, headDim } = shape;
    const width = Math.max(dim, ffnDim, heads * headDim);
    const vectors = (bytes: number): number => memory.allocate(bytes * rowsMax);
    this.#residualStride = Math.ceil((tagRoom + layerLeafLength(shape, true)) / 16) * 16;
    this.#residuals = vectors(this.#residualStride) + tagRoom;
    const tags = memory.bytes(this.#residuals - 1, (rowsMax - 1) * this.#residualStride + 1);
    for (let at = 0; at < tags.length; at += this.#residualStride) tags[at] = layerLeafTag;
    this.x = vectors(2 * width);
    this.xExponents = vectors(4);
    this.y = vectors(4 * dim);
    this.q = vectors(4 * heads * headDim);
    this.k = vectors(4 * headsKv * headDim);
    this.v = vectors(4 * headsKv * headDim);
    this.gate = vectors(4 * ffnDim);
    this.up = vectors(4 * ffnDim);
    this.angles = vectors(angleBytes(headDim));
    this.logits = memory.allocate(4 * shape.vocabularySize * Math.min(rowsMax, logitRowsMax));
    this.query = memory.allocate(2 * headDim);
    this.wide = memory.allocate(8 * width);
    this.scratch = memory.allocate(pieceBytes + sumBytes * rowsMax);
    this.attention = memory.allocate(8 * (contextTokensMax + 2) + 8 * headDim + 16);
  }

  /** The residual vector of a row; the tag of leaves stands before it, and its keys and values behind it. */
  residual(row: number): number {
    return this.#residuals + row * this.#residualStride;
  }
}

export function placeAngles(
  memory: KernelMemory,
  address: number,
  turns: readonly number[],
  positions: readonly number[],
): void {
  const angles = memory.integers(address, 2 * turns.length * positions.length);
  let at = 0;
  for (const position of positions) {
    for (const turn of turns) {
      const phase = phaseOf(turn, position);
      angles[at++] = cosineOf(phase);
      angles[at++] = sineOf(phase);
    }
  }
}
