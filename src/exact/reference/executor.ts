/** The reference as an executor: one row after the other, one layer after the other. */
import { layerLeafBytes } from "../commitment/leaf.ts";
import type { Executor, LayerListener, Sequence, StepRow } from "../executor.ts";
import type { ExactModel } from "../model/model.ts";
import { SkeinError } from "../../util/errors.ts";
import { checkCount, checkRange, checkStep } from "../step-checks.ts";
import { decodeLayer, embedToken, type KeyValue, logitsOf } from "./decoder.ts";

class ReferenceSequence implements Sequence {
  /** For each layer of the range what it keeps of each position. */
  readonly past: KeyValue[][];

  readonly owner: object;
  isFree = false;

  constructor(layers: number, owner: object) {
    this.owner = owner;
    this.past = Array.from({ length: layers }, () => []);
  }

  get length(): number {
    return this.past[0]!.length;
  }

  truncate(length: number): void {
    checkCount("The length of a sequence", length, 0);
    for (const layer of this.past) layer.length = Math.min(layer.length, length);
  }

  free(): void {
    this.isFree = true;
    this.truncate(0);
  }

  fork(length: number): ReferenceSequence {
    checkCount("The length of a sequence", length, 0);
    if (this.isFree || length > this.length) {
      throw new SkeinError("invalid_request", `The sequence has no ${length} positions to begin with.`);
    }
    const other = new ReferenceSequence(this.past.length, this.owner);
    for (const [i, layer] of this.past.entries()) other.past[i]!.push(...layer.slice(0, length));
    return other;
  }
}

export function createReferenceExecutor(model: ExactModel): Executor {
  const { shape, range } = model;
  checkRange(shape, range);

  function runRow(index: number, { sequence, input, wantsLogits }: StepRow, onLayer?: LayerListener) {
    const { past } = sequence as ReferenceSequence;
    let residual = typeof input === "number" ? embedToken(model, input) : input;
    if (range.start === 0) onLayer?.(index, 0, layerLeafBytes(residual, null));
    for (const [i, layer] of model.layers.entries()) {
      residual = decodeLayer(shape, layer, past[i]!, residual);
      onLayer?.(index, range.start + i + 1, layerLeafBytes(residual, past[i]!.at(-1)!));
    }
    if (range.end < shape.layers) return residual;
    return wantsLogits ? logitsOf(model, residual) : null;
  }

  const executor: Executor = {
    shape,
    range,
    contextTokensMax: shape.contextTokensMax,
    rowsMax: 1_024,
    outputNorm: () => model.outputNorm,
    newSequence: () => new ReferenceSequence(model.layers.length, executor),
    step(rows, onLayer) {
      checkStep(executor, rows);
      return rows.map((row, index) => runRow(index, row, onLayer));
    },
  };
  return executor;
}
