/** The quick executor: WebAssembly SIMD kernels, many rows at a time. Same bits as the reference. */
import { layerLeafLength } from "../commitment/leaf.ts";
import type { Executor, LayerListener, StepRow } from "../executor.ts";
import {
  activationBits,
  type ExactShape,
  ffnBits,
  ffnFraction,
  keyBits,
  type LayerRange,
  logitBits,
  logitFraction,
  qkvBits,
  qkvFraction,
  queryBits,
  residualBits,
  residualFraction,
} from "../model/model.ts";
import type { ModelSink } from "../model/sink.ts";
import { rootOf } from "../ops/operations.ts";
import { checkStep } from "../step-checks.ts";
import { KernelMemory } from "./kernels.ts";
import { angleBytes, logitRowsMax, placeAngles, Workspace } from "./workspace.ts";
import { SequencePool, type WasmSequence } from "./sequences.ts";
import { firstOfRow, type PlacedLayer, type PlacedMatrix, type PlacedNorm, placeModel } from "./weights.ts";

export interface WasmExecutorOptions {
  /** Default: the whole model. */
  readonly range?: LayerRange;
  /** Positions a sequence may have; default: the model's. Memory is taken for all of them. */
  readonly contextTokensMax?: number;
  /** Rows of a step; default 64, where reading weights is spread over enough tokens. */
  readonly rowsMax?: number;
}

const rowsMaxDefault = 64;

/** Give the model to `sink`, then call `executor()`. */
export function createWasmExecutor(
  shape: ExactShape,
  options: WasmExecutorOptions = {},
): { readonly sink: ModelSink; readonly executor: () => Executor } {
  const range = options.range ?? { start: 0, end: shape.layers };
  const memory = new KernelMemory();
  const placing = placeModel(memory, shape, range);
  return {
    sink: placing,
    executor: () => new WasmExecutor(memory, shape, range, placing.placed(), options),
  };
}

class WasmExecutor implements Executor {
  readonly shape: ExactShape;
  readonly range: LayerRange;
  readonly contextTokensMax: number;
  readonly rowsMax: number;
  readonly #memory: KernelMemory;
  readonly #model: ReturnType<ReturnType<typeof placeModel>["placed"]>;
  readonly #pool: SequencePool;
  readonly #space: Workspace;
  readonly #root: bigint;
  readonly #headRoot: bigint;

  constructor(
    memory: KernelMemory,
    shape: ExactShape,
    range: LayerRange,
    model: ReturnType<ReturnType<typeof placeModel>["placed"]>,
    options: WasmExecutorOptions,
  ) {
    this.shape = shape;
    this.range = range;
    this.contextTokensMax = Math.min(
      shape.contextTokensMax,
      options.contextTokensMax ?? shape.contextTokensMax,
    );
    this.rowsMax = options.rowsMax ?? rowsMaxDefault;
    this.#memory = memory;
    this.#model = model;
    this.#pool = new SequencePool(memory, shape, range.end - range.start, this.contextTokensMax);
    this.#space = new Workspace(memory, shape, this.rowsMax, this.contextTokensMax);
    this.#root = BigInt(rootOf(shape.dim));
    this.#headRoot = BigInt(rootOf(shape.headDim));
  }

  newSequence(): WasmSequence {
    return this.#pool.take();
  }

  step(rows: readonly StepRow[], onLayer?: LayerListener): (Int32Array | null)[] {
    checkStep(this, rows);
    const placed = this.#place(rows);
    this.#load(rows);
    if (this.range.start === 0 && onLayer !== undefined) this.#tell(rows.length, 0, onLayer);
    for (const [i, layer] of this.#model.layers.entries()) {
      this.#attention(layer, i, placed);
      this.#feedForward(layer, placed.length);
      if (onLayer !== undefined) this.#tell(placed.length, this.range.start + i + 1, onLayer);
    }
    for (const { sequence, position } of placed) sequence.length = position + 1;
    return this.range.end < this.shape.layers
      ? rows.map((_, row) => this.#memory.integers(this.#space.residual(row), this.shape.dim).slice())
      : this.#logits(rows);
  }

  /** Positions of rows, and the angles of these positions. */
  #place(rows: readonly StepRow[]): { sequence: WasmSequence; position: number }[] {
    const added = new Map<WasmSequence, number>();
    const placed = rows.map((row) => {
      const sequence = row.sequence as WasmSequence;
      const position = added.get(sequence) ?? sequence.length;
      added.set(sequence, position + 1);
      return { sequence, position };
    });
    const positions = placed.map(({ position }) => position);
    placeAngles(this.#memory, this.#space.angles, this.shape.turns, positions);
    return placed;
  }

  #load(rows: readonly StepRow[]): void {
    const { kernels } = this.#memory;
    for (const [index, { input }] of rows.entries()) {
      const residual = this.#space.residual(index);
      if (typeof input === "number") {
        const { weights, columns, multipliers, exponents } = this.#model.embedding!;
        const view = new DataView(this.#memory.buffer);
        const multiplier = view.getInt16(multipliers + 2 * input, true);
        kernels.embed(
          firstOfRow(weights, columns, input),
          multiplier,
          view.getInt8(exponents + input),
          columns,
          residual,
        );
      } else {
        this.#memory.integers(residual, input.length).set(input);
      }
    }
  }

  #attention(
    layer: PlacedLayer,
    index: number,
    rows: readonly { sequence: WasmSequence; position: number }[],
  ): void {
    const { kernels } = this.#memory;
    const space = this.#space;
    const { dim, heads, headsKv, headDim } = this.shape;
    const group = heads / headsKv;
    this.#norm(layer.attnNorm, [...rows.keys()]);
    this.#multiply(layer.q, rows.length, space.q, qkvFraction, qkvBits);
    this.#multiply(layer.k, rows.length, space.k, qkvFraction, qkvBits);
    this.#multiply(layer.v, rows.length, space.v, qkvFraction, qkvBits);
    for (const [row, { sequence, position }] of rows.entries()) {
      const angles = space.angles + row * angleBytes(headDim);
      const turn = (at: number, norm: PlacedNorm | undefined): void => {
        if (norm !== undefined) {
          const epsilon = BigInt(this.shape.headNormEpsilon);
          kernels.normHead(at, headDim, norm.mantissas, norm.exponent, epsilon, this.#headRoot);
        }
        kernels.rotate(at, headDim / 2, angles);
      };
      for (let h = 0; h < heads; h++) turn(space.q + 4 * headDim * (row * heads + h), layer.qNorm);
      for (let h = 0; h < headsKv; h++) turn(space.k + 4 * headDim * (row * headsKv + h), layer.kNorm);
      this.#keep(row, sequence.layers[index]!, position);
    }
    for (const [row, { sequence, position }] of rows.entries()) {
      const cache = sequence.layers[index]!;
      for (let head = 0; head < heads; head++) {
        const at = head + row * heads;
        const exponent = kernels.toBlock(space.q + 4 * headDim * at, headDim, queryBits, space.query);
        const kv = Math.floor(head / group) * this.#pool.capacity;
        kernels.attend(
          space.query,
          exponent - qkvFraction,
          cache.keys + 2 * headDim * kv,
          cache.keyExponents + kv,
          cache.values + 2 * headDim * kv,
          cache.valueExponents + kv,
          position + 1,
          headDim,
          this.#memory.exp2,
          space.q + 4 * headDim * at,
          space.attention,
        );
      }
      const width = heads * headDim;
      const shift = kernels.toBlock(
        space.q + 4 * width * row,
        width,
        activationBits,
        space.x + 2 * width * row,
      );
      this.#memory.integers(space.xExponents + 4 * row, 1)[0] = shift - qkvFraction;
    }
    this.#multiply(layer.attnOutput, rows.length, space.y, residualFraction, residualBits);
    for (let row = 0; row < rows.length; row++)
      kernels.addTo(space.residual(row), space.y + 4 * dim * row, dim);
  }

  /** Keys and values of a row, beside its residual vector (they are committed to) and in the sequence. */
  #keep(
    row: number,
    cache: {
      readonly keys: number;
      readonly values: number;
      readonly keyExponents: number;
      readonly valueExponents: number;
    },
    position: number,
  ): void {
    const { kernels } = this.#memory;
    const space = this.#space;
    const { headsKv, headDim } = this.shape;
    const width = headsKv * headDim;
    const mantissas = space.residual(row) + 4 * this.shape.dim;
    const exponents = mantissas + 4 * width;
    for (let head = 0; head < headsKv; head++) {
      const key = mantissas + 2 * headDim * head;
      const value = key + 2 * width;
      const at = 4 * headDim * (row * headsKv + head);
      const keyExponent = kernels.toBlock(space.k + at, headDim, keyBits, key) - qkvFraction;
      const valueExponent = kernels.toBlock(space.v + at, headDim, keyBits, value) - qkvFraction;
      const base = head * this.#pool.capacity;
      const bytes = new Int8Array(this.#memory.buffer);
      bytes[exponents + head] = keyExponent;
      bytes[exponents + headsKv + head] = valueExponent;
      bytes[cache.keyExponents + base + position] = keyExponent;
      bytes[cache.valueExponents + base + position] = valueExponent;
      bytes.copyWithin(cache.keys + 2 * headDim * (base + position), key, key + 2 * headDim);
      kernels.keepValue(value, headDim, cache.values + 2 * headDim * base, position);
    }
  }

  #feedForward(layer: PlacedLayer, rows: number): void {
    const { kernels, sigmoid } = this.#memory;
    const space = this.#space;
    const { dim, ffnDim } = this.shape;
    this.#norm(
      layer.ffnNorm,
      Array.from({ length: rows }, (_, row) => row),
    );
    this.#multiply(layer.gate, rows, space.gate, ffnFraction, ffnBits);
    this.#multiply(layer.up, rows, space.up, ffnFraction, ffnBits);
    for (let row = 0; row < rows; row++) {
      const at = 4 * ffnDim * row;
      this.#memory.integers(space.xExponents + 4 * row, 1)[0] = kernels.gatedBlock(
        space.gate + at,
        space.up + at,
        ffnDim,
        sigmoid,
        space.x + 2 * ffnDim * row,
        space.wide,
      );
    }
    this.#multiply(layer.down, rows, space.y, residualFraction, residualBits);
    for (let row = 0; row < rows; row++) kernels.addTo(space.residual(row), space.y + 4 * dim * row, dim);
  }

  /** Norms of the residual vectors of `rows`, one after the other where matrices look for them. */
  #norm(norm: PlacedNorm, rows: readonly number[]): void {
    const space = this.#space;
    const { dim, normEpsilon } = this.shape;
    const exponents = this.#memory.integers(space.xExponents, rows.length);
    for (const [i, row] of rows.entries()) {
      exponents[i] = this.#memory.kernels.normToBlock(
        space.residual(row),
        dim,
        norm.mantissas,
        norm.exponent,
        BigInt(normEpsilon),
        this.#root,
        space.x + 2 * dim * i,
        space.wide,
      );
    }
  }

  #multiply(matrix: PlacedMatrix, rows: number, into: number, fraction: number, bits: number): void {
    const { x, xExponents, scratch } = this.#space;
    const { kernels } = this.#memory;
    const kernel = matrix.format === "int8-row" ? "matmul" : "matmulGrouped";
    kernels[kernel](matrix.record, x, xExponents, rows, into, matrix.rows, fraction, 2 ** bits - 1, scratch);
  }

  /** Logits of the rows that want them, several at a time: each time all weights of the output are read. */
  #logits(rows: readonly StepRow[]): (Int32Array | null)[] {
    const { vocabularySize } = this.shape;
    const matrix = this.#model.output ?? this.#model.embedding!;
    const wanted = rows.flatMap((row, index) => (row.wantsLogits ? [index] : []));
    const outputs = rows.map((): Int32Array | null => null);
    for (let from = 0; from < wanted.length; from += logitRowsMax) {
      const some = wanted.slice(from, from + logitRowsMax);
      this.#norm(this.#model.outputNorm!, some);
      this.#multiply(matrix, some.length, this.#space.logits, logitFraction, logitBits);
      for (const [i, index] of some.entries()) {
        const at = this.#space.logits + 4 * vocabularySize * i;
        outputs[index] = this.#memory.integers(at, vocabularySize).slice();
      }
    }
    return outputs;
  }

  #tell(rows: number, layer: number, onLayer: LayerListener): void {
    const length = layerLeafLength(this.shape, layer > 0);
    for (let row = 0; row < rows; row++) {
      onLayer(row, layer, this.#memory.bytes(this.#space.residual(row) - 1, length));
    }
  }
}
