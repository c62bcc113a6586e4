/** What every executor checks before it computes anything. */
import { SkeinError } from "../util/errors.ts";
import type { Executor, StepRow } from "./executor.ts";
import { type ExactShape, type LayerRange, residualBits } from "./model/model.ts";

const residualMax: number = 2 ** residualBits - 1;

/** @throws SkeinError as `Executor.step` says */
export function checkStep(executor: Executor, rows: readonly StepRow[]): void {
  if (rows.length === 0 || rows.length > executor.rowsMax) {
    throw invalid(`A step has 1 to ${executor.rowsMax} rows, not ${rows.length}.`);
  }
  const added = new Map<object, number>();
  for (const { sequence, input } of rows) {
    if (sequence.owner !== executor) throw invalid("The sequence belongs to another executor.");
    if (sequence.isFree) throw invalid("The sequence was given back.");
    const length = (added.get(sequence) ?? sequence.length) + 1;
    added.set(sequence, length);
    if (length > executor.contextTokensMax) {
      throw new SkeinError(
        "context_length_exceeded",
        `The context of ${executor.contextTokensMax} tokens is full.`,
        { hint: "Ask for fewer tokens, or shorten the prompt." },
      );
    }
    checkInput(executor, input);
  }
}

/** @throws SkeinError `invalid_request` unless the range is one of at least one layer of the model */
export function checkRange(shape: ExactShape, { start, end }: LayerRange): void {
  const isRange = Number.isInteger(start) && Number.isInteger(end) && start >= 0 && start < end;
  if (isRange && end <= shape.layers) return;
  throw invalid(`Layers ${start} to ${end} are no part of a model of ${shape.layers} layers.`);
}

/** @throws SkeinError `invalid_request` unless it is a whole number of at least `min` */
export function checkCount(what: string, count: number, min: number): void {
  if (Number.isSafeInteger(count) && count >= min) return;
  throw invalid(`${what} must be a whole number of at least ${min}, not ${count}.`);
}

function checkInput({ shape, range }: Executor, input: number | Int32Array): void {
  if (typeof input === "number") {
    if (range.start !== 0) throw invalid("This stage takes residual vectors, not token ids.");
    if (Number.isInteger(input) && input >= 0 && input < shape.vocabularySize) return;
    throw invalid(`Token id ${input} is outside the vocabulary of ${shape.vocabularySize} tokens.`);
  }
  if (range.start === 0) throw invalid("This stage takes token ids, not residual vectors.");
  if (input.length !== shape.dim) {
    throw invalid(`A residual vector has ${shape.dim} values here, not ${input.length}.`);
  }
  // −2^31 is the one 32-bit number that no operation makes.
  if (input.some((value) => value < -residualMax))
    throw invalid("The residual vector has a value out of range.");
}

function invalid(message: string): SkeinError {
  return new SkeinError("invalid_request", message);
}
