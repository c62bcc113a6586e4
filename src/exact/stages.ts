/** Executors of consecutive layers, run one after the other as if they were one. */
import { SkeinError } from "../util/errors.ts";
import type { Executor, LayerListener, Sequence, StepRow } from "./executor.ts";

/** One position of a sequence that has keys and values in every stage. */
export interface StagedRow {
  /** One per stage, in their order. */
  readonly sequences: readonly Sequence[];
  readonly input: StepRow["input"];
  readonly wantsLogits: boolean;
}

/**
 * One step through all stages. Layers are told in order, as one executor of all of them would.
 *
 * @param between what happens to residual vectors on their way to the next stage
 * @returns what the last stage returns
 */
export function stepStages(
  stages: readonly Executor[],
  rows: readonly StagedRow[],
  onLayer?: LayerListener,
  between: (residual: Int32Array) => Int32Array = (residual) => residual,
): (Int32Array | null)[] {
  let inputs = rows.map(({ input }) => input);
  let outputs: (Int32Array | null)[] = [];
  for (const [i, stage] of stages.entries()) {
    const own = rows.map(({ sequences, wantsLogits }, row) => ({
      sequence: sequences[i]!,
      input: inputs[row]!,
      wantsLogits,
    }));
    outputs = stage.step(own, onLayer);
    if (i + 1 < stages.length) inputs = outputs.map((residual) => between(residual!));
  }
  return outputs;
}

/** @throws SkeinError `invalid_request` unless the stages are all layers of one model, in order */
export function checkWhole(stages: readonly Executor[]): void {
  let next = 0;
  for (const { range } of stages) {
    if (range.start !== next) throw incomplete();
    next = range.end;
  }
  if (next === 0 || next !== stages.at(-1)!.shape.layers) throw incomplete();
}

function incomplete(): SkeinError {
  return new SkeinError(
    "invalid_request",
    "These stages are not all layers of a model, one after the other.",
  );
}
