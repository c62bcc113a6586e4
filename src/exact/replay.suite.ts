/**
 * Runs token sequences through an executor in as many ways as the port allows, and counts the bits in which anything
 * it tells differs from what the reference says when it runs one token after the other.
 */
import { packResidual, unpackResidual } from "./commitment/hidden.ts";
import type { Executor, LayerListener, Sequence, StepRow } from "./executor.ts";
import { type Dice, randomInputs } from "./random-model.suite.ts";
import { stepStages } from "./stages.ts";

type Input = StepRow["input"];

/** What an executor makes of sequences: for each position its leaves, and logits or residual vector. */
export interface Truth {
  readonly inputs: readonly (readonly Input[])[];
  readonly leaves: Uint8Array[][][];
  readonly outputs: Int32Array[][];
}

export interface Comparison {
  /** Positions that were computed and compared. */
  tokens: number;
  leaves: number;
  outputs: number;
  differingBits: number;
}

export function noComparison(): Comparison {
  return { tokens: 0, leaves: 0, outputs: 0, differingBits: 0 };
}

/** One position after the other, each in a step of its own. */
export function truthOf(executor: Executor, inputs: readonly (readonly Input[])[]): Truth {
  const leaves: Uint8Array[][][] = [];
  const outputs = inputs.map((own, s) => {
    const sequence = executor.newSequence();
    leaves[s] = [];
    const results = own.map((input, t) => {
      const kept: Uint8Array[] = (leaves[s]![t] = []);
      const [output] = executor.step([{ sequence, input, wantsLogits: true }], (_, layer, bytes) => {
        kept[layer] = bytes.slice();
      });
      return output!;
    });
    sequence.free();
    return results;
  });
  return { inputs, leaves, outputs };
}

/** One sequence on its way through all stages. */
interface Journey {
  readonly index: number;
  sequences: Sequence[];
  at: number;
}

/**
 * The same sequences in steps of random rows, with detours that are cut off again and sequences begun anew.
 * `stages` follow one another and hold together what the truth's executor held.
 */
export function replay(stages: readonly Executor[], truth: Truth, dice: Dice): Comparison {
  const result = noComparison();
  const start = (index: number): Journey => ({
    index,
    sequences: stages.map((stage) => stage.newSequence()),
    at: 0,
  });
  const journeys = truth.inputs.map((_, index) => start(index));
  const rowsMax = Math.min(...stages.map((stage) => stage.rowsMax));
  for (let disturbances = 0; ;) {
    const open = journeys.filter(({ at, index }) => at < truth.inputs[index]!.length);
    if (open.length === 0) break;
    if (disturbances < disturbancesMax && disturb(stages, dice.pick(open), dice, rowsMax)) disturbances += 1;
    advance(stages, planStep(open, truth, dice, rowsMax), truth, dice, result);
  }
  for (const { sequences } of journeys) for (const sequence of sequences) sequence.free();
  return result;
}

/** Long sequences in short steps would never arrive otherwise. */
const disturbancesMax = 8;

/** Sometimes a sequence goes astray and comes back, goes back further, goes on in a fork, or begins anew in other memory. */
function disturb(stages: readonly Executor[], journey: Journey, dice: Dice, rowsMax: number): boolean {
  if (dice.chance(0.2)) {
    goAstray(stages, journey, dice, rowsMax);
    const back = dice.chance(0.3) ? dice.whole(0, journey.at) : journey.at;
    for (const sequence of journey.sequences) sequence.truncate(back);
    journey.at = back;
    return true;
  }
  if (dice.chance(0.1)) {
    // What the one writes behind their common beginning is not the other one's.
    const at = dice.whole(0, journey.at);
    const left = { ...journey, at, sequences: journey.sequences };
    journey.sequences = left.sequences.map((sequence) => sequence.fork(at));
    if (dice.chance(0.5)) for (const sequence of left.sequences) sequence.truncate(at);
    if (left.sequences[0]!.length < stages[0]!.contextTokensMax) goAstray(stages, left, dice, rowsMax);
    for (const sequence of left.sequences) sequence.free();
    journey.at = at;
    return true;
  }
  if (!dice.chance(0.05)) return false;
  for (const sequence of journey.sequences) sequence.free();
  journey.sequences = stages.map((stage) => stage.newSequence());
  journey.at = 0;
  return true;
}

function goAstray(stages: readonly Executor[], journey: Journey, dice: Dice, rowsMax: number): void {
  const { shape, range, contextTokensMax } = stages[0]!;
  const room = Math.min(contextTokensMax - journey.sequences[0]!.length, rowsMax, 5);
  const wrong = randomInputs(dice, shape, range, dice.whole(1, room));
  runThrough(
    stages,
    wrong.map((input) => ({ journey, input, wantsLogits: dice.chance(0.5) })),
    () => undefined,
  );
}

/** Which sequence each row of the next step belongs to. */
function planStep(open: readonly Journey[], truth: Truth, dice: Dice, rowsMax: number): Journey[] {
  const left = new Map(open.map((journey) => [journey, truth.inputs[journey.index]!.length - journey.at]));
  const rows: Journey[] = [];
  const wanted = dice.whole(1, dice.chance(0.3) ? Math.min(3, rowsMax) : rowsMax);
  while (rows.length < wanted && left.size > 0) {
    const journey = dice.pick([...left.keys()]);
    // A run of rows of one sequence, which others may interrupt.
    for (let run = dice.whole(1, 6); run > 0 && rows.length < wanted && left.has(journey); run--) {
      rows.push(journey);
      const rest = left.get(journey)! - 1;
      if (rest === 0) left.delete(journey);
      else left.set(journey, rest);
    }
  }
  return rows;
}

interface JourneyRow {
  readonly journey: Journey;
  readonly input: Input;
  readonly wantsLogits: boolean;
}

/** One step through all stages; residual vectors travel packed, as between machines. */
function runThrough(
  stages: readonly Executor[],
  rows: readonly JourneyRow[],
  onLayer: LayerListener,
): (Int32Array | null)[] {
  const { dim } = stages[0]!.shape;
  const staged = rows.map(({ journey, ...row }) => ({ ...row, sequences: journey.sequences }));
  return stepStages(stages, staged, onLayer, (residual) => unpackResidual(packResidual(residual), dim));
}

function advance(
  stages: readonly Executor[],
  planned: readonly Journey[],
  truth: Truth,
  dice: Dice,
  result: Comparison,
): void {
  const rows = planned.map((journey) => {
    const position = journey.at++;
    return {
      journey,
      position,
      input: truth.inputs[journey.index]![position]!,
      wantsLogits: dice.chance(0.7),
    };
  });
  const told = rows.map(() => 0);
  const outputs = runThrough(stages, rows, (row, layer, bytes) => {
    const { journey, position } = rows[row]!;
    result.differingBits += differingBits(truth.leaves[journey.index]![position]![layer]!, bytes);
    result.leaves += 1;
    told[row]! += 1;
  });
  for (const [row, { journey, position, wantsLogits }] of rows.entries()) {
    const kept = truth.leaves[journey.index]![position]!;
    if (told[row] !== kept.filter((leaf) => leaf !== undefined).length) result.differingBits += 1;
    const output = outputs[row]!;
    const isLast = stages.at(-1)!.range.end === stages.at(-1)!.shape.layers;
    if ((output !== null) !== (wantsLogits || !isLast)) result.differingBits += 1;
    if (output === null) continue;
    result.differingBits += differingBits(bytesOf(truth.outputs[journey.index]![position]!), bytesOf(output));
    result.outputs += 1;
  }
  result.tokens += rows.length;
}

function bytesOf(values: Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

export function differingBits(a: Uint8Array, b: Uint8Array): number {
  let bits = 8 * Math.abs(a.length - b.length);
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    for (let rest = a[i]! ^ b[i]!; rest !== 0; rest &= rest - 1) bits += 1;
  }
  return bits;
}
