/**
 * What threads do in a step, each its share: rows of matrices, heads, or rows of the step. All run the same program and
 * meet at barriers; one thread alone meets nobody. Shares do not change results, for nothing is summed across them.
 */
import {
  activationBits,
  type ExactShape,
  ffnBits,
  ffnFraction,
  logitBits,
  logitFraction,
  qkvBits,
  qkvFraction,
  residualBits,
  residualFraction,
} from "../model/model.ts";
import { rootOf } from "../ops/operations.ts";
import type { KernelMemory } from "./kernels.ts";
import { type PageLayout, pagePositions } from "./pages.ts";
import type { PlacedLayer, PlacedMatrix, PlacedModel, PlacedNorm } from "./weights.ts";
import { angleBytes, logitRowsMax, type OwnWorkspace, residualAt, type Workspace } from "./workspace.ts";

/** One row of a step: where the table of its sequence's pages is, and its position in the sequence. */
export interface ProgramRow {
  readonly table: number;
  readonly position: number;
}

/** Plain data: the same for all threads. */
export interface ProgramSetup {
  readonly shape: ExactShape;
  readonly model: PlacedModel;
  readonly space: Workspace;
  readonly pages: PageLayout;
  readonly threads: number;
}

/** Returns when all threads have called it. */
export type Barrier = () => void;

export class Program {
  readonly #memory: KernelMemory;
  readonly #setup: ProgramSetup;
  readonly #thread: number;
  readonly #own: OwnWorkspace;
  readonly #meet: Barrier;
  readonly #root: bigint;
  readonly #headRoot: bigint;

  constructor(memory: KernelMemory, setup: ProgramSetup, thread: number, meet: Barrier) {
    this.#memory = memory;
    this.#setup = setup;
    this.#thread = thread;
    this.#own = setup.space.own[thread]!;
    this.#meet = meet;
    this.#root = BigInt(rootOf(setup.shape.dim));
    this.#headRoot = BigInt(rootOf(setup.shape.headDim));
  }

  runLayer(layer: number, rows: readonly ProgramRow[]): void {
    const placed = this.#setup.model.layers[layer]!;
    this.#attention(placed, layer, rows);
    this.#feedForward(placed, rows.length);
  }

  /** Logits of at most `logitRowsMax` rows, one after the other. */
  runLogits(rows: readonly number[]): void {
    if (rows.length > logitRowsMax) throw new RangeError("too many rows");
    const { model, space } = this.#setup;
    this.#norm(model.outputNorm!, rows);
    this.#meet();
    this.#multiply(model.output ?? model.embedding!, rows.length, space.logits, logitFraction, logitBits);
    this.#meet();
  }

  #attention(layer: PlacedLayer, index: number, rows: readonly ProgramRow[]): void {
    const { kernels } = this.#memory;
    const { shape, space } = this.#setup;
    const width = shape.heads * shape.headDim;
    this.#norm(layer.attnNorm, [...rows.keys()]);
    this.#meet();
    this.#multiply(layer.q, rows.length, space.q, qkvFraction, qkvBits);
    this.#multiply(layer.k, rows.length, space.k, qkvFraction, qkvBits);
    this.#multiply(layer.v, rows.length, space.v, qkvFraction, qkvBits);
    this.#meet();
    for (let head = this.#thread; head < shape.headsKv; head += this.#setup.threads) {
      for (const [row, at] of rows.entries()) this.#prepareHead(layer, index, row, at, head);
      for (const [row, at] of rows.entries()) this.#attendHead(index, row, at, head);
    }
    this.#meet();
    const exponents = this.#memory.integers(space.xExponents, rows.length);
    for (let row = this.#thread; row < rows.length; row += this.#setup.threads) {
      const from = space.q + 4 * width * row;
      const shift = kernels.toBlock(from, width, activationBits, space.x + 2 * width * row);
      exponents[row] = shift - qkvFraction;
    }
    this.#meet();
    this.#addProduct(layer.attnOutput, rows.length);
    this.#meet();
  }

  /** Rotates one head of keys and the queries that read it, and keeps key and value. */
  #prepareHead(
    layer: PlacedLayer,
    index: number,
    row: number,
    { table, position }: ProgramRow,
    head: number,
  ): void {
    const { kernels } = this.#memory;
    const { shape, space, pages } = this.#setup;
    const { heads, headsKv, headDim } = shape;
    const angles = space.angles + row * angleBytes(headDim);
    const turn = (at: number, norm: PlacedNorm | undefined): void => {
      if (norm !== undefined) {
        const epsilon = BigInt(shape.headNormEpsilon);
        kernels.normHead(at, headDim, norm.mantissas, norm.exponent, epsilon, this.#headRoot);
      }
      kernels.rotate(at, headDim / 2, angles);
    };
    const group = heads / headsKv;
    for (let h = head * group; h < (head + 1) * group; h++) {
      turn(space.q + 4 * headDim * (row * heads + h), layer.qNorm);
    }
    const at = 4 * headDim * (row * headsKv + head);
    turn(space.k + at, layer.kNorm);
    const stride = 2 * headsKv * headDim;
    const shown = residualAt(space, row) + 4 * shape.dim;
    const { keys, values, keyExponents, valueExponents } = pages.layers[index]!;
    const first = head * pagePositions;
    kernels.keepHead(
      space.k + at,
      space.v + at,
      headDim,
      shown + 2 * headDim * head,
      shown + 2 * stride + head,
      stride,
      headsKv,
      table,
      keys + 2 * headDim * first,
      values + 2 * headDim * first,
      keyExponents + first,
      valueExponents + first,
      position,
    );
  }

  /** All queries that read one head of keys. */
  #attendHead(index: number, row: number, { table, position }: ProgramRow, head: number): void {
    const { kernels, exp2 } = this.#memory;
    const { shape, space, pages } = this.#setup;
    const { heads, headsKv, headDim } = shape;
    const group = heads / headsKv;
    const { keys, values, keyExponents, valueExponents } = pages.layers[index]!;
    const first = head * pagePositions;
    kernels.attend(
      space.q + 4 * headDim * (row * heads + head * group),
      group,
      qkvFraction,
      table,
      keys + 2 * headDim * first,
      keyExponents + first,
      values + 2 * headDim * first,
      valueExponents + first,
      position + 1,
      headDim,
      exp2,
      this.#own.attention,
    );
  }

  #feedForward(layer: PlacedLayer, rows: number): void {
    const { kernels, sigmoid } = this.#memory;
    const { shape, space } = this.#setup;
    const { ffnDim } = shape;
    this.#norm(
      layer.ffnNorm,
      Array.from({ length: rows }, (_, row) => row),
    );
    this.#meet();
    this.#multiply(layer.gate, rows, space.gate, ffnFraction, ffnBits);
    this.#multiply(layer.up, rows, space.up, ffnFraction, ffnBits);
    this.#meet();
    const exponents = this.#memory.integers(space.xExponents, rows);
    for (let row = this.#thread; row < rows; row += this.#setup.threads) {
      const at = 4 * ffnDim * row;
      const into = space.x + 2 * ffnDim * row;
      exponents[row] = kernels.gatedBlock(
        space.gate + at,
        space.up + at,
        ffnDim,
        sigmoid,
        into,
        this.#own.wide,
      );
    }
    this.#meet();
    this.#addProduct(layer.down, rows);
    this.#meet();
  }

  /** Norms of the residual vectors of `rows`, one after the other where matrices look for them. */
  #norm(norm: PlacedNorm, rows: readonly number[]): void {
    const { space, shape, threads } = this.#setup;
    const exponents = this.#memory.integers(space.xExponents, rows.length);
    for (let i = this.#thread; i < rows.length; i += threads) {
      exponents[i] = this.#memory.kernels.normToBlock(
        residualAt(space, rows[i]!),
        shape.dim,
        norm.mantissas,
        norm.exponent,
        BigInt(shape.normEpsilon),
        this.#root,
        space.x + 2 * shape.dim * i,
        this.#own.wide,
      );
    }
  }

  /** This thread's rows of a matrix times all blocks of the step. */
  #multiply(matrix: PlacedMatrix, rows: number, into: number, fraction: number, bits: number): void {
    const { x, xExponents } = this.#setup.space;
    const { record, first, count } = matrix.slices[this.#thread]!;
    if (count === 0) return;
    const kernel = matrix.format === "int8-row" ? "matmul" : "matmulGrouped";
    this.#memory.kernels[kernel](
      record,
      x,
      xExponents,
      rows,
      into + 4 * first,
      matrix.rows,
      fraction,
      2 ** bits - 1,
      this.#own.scratch,
    );
  }

  /** Adds a matrix's product to the residual vectors, each thread in its rows. */
  #addProduct(matrix: PlacedMatrix, rows: number): void {
    const { space, shape } = this.#setup;
    this.#multiply(matrix, rows, space.y, residualFraction, residualBits);
    const { first, count } = matrix.slices[this.#thread]!;
    for (let row = 0; row < rows; row++) {
      const from = space.y + 4 * (shape.dim * row + first);
      this.#memory.kernels.addTo(residualAt(space, row) + 4 * first, from, count);
    }
  }
}
