/** Two executors side by side: whether they agree in every bit that is committed to, and where not. */
import { equalBytes, type Sha256 } from "./commitment/commitment.ts";
import { CommitmentRecorder } from "./commitment/recorder.ts";
import type { Executor, Sequence } from "./executor.ts";
import { type SamplerParameters, sampleToken } from "./sampler/sampler.ts";

export interface Difference {
  readonly sequence: number;
  readonly position: number;
  /** The first layer whose residual vector, keys or values differ (0: embedding); null: only the logits do. */
  readonly layer: number | null;
}

export interface Comparison {
  /** Positions compared so far, of all sequences together. */
  readonly positions: number;
  /** Positions there are. */
  readonly total: number;
  readonly difference: Difference | null;
}

export interface CompareOptions {
  /** Beginnings of sequences, each at least one token. */
  readonly prompts: readonly (readonly number[])[];
  /** Positions of each sequence: its prompt, and what is drawn behind it. */
  readonly positions: number;
  readonly sampler: SamplerParameters;
}

/** A sequence in one of the executors. */
interface Run {
  readonly sequence: Sequence;
  readonly recorder: CommitmentRecorder;
  readonly tokens: number[];
}

/**
 * Runs all sequences in `quick`, as many rows in a step as it takes, then token by token in `reference`. Yields after
 * every position of the reference, which takes its time; ends after the first difference.
 */
export function* compareExecutors(
  sha256: Sha256,
  quick: Executor,
  reference: Executor,
  { prompts, positions, sampler }: CompareOptions,
): Generator<Comparison> {
  const start = (executor: Executor): Run[] =>
    prompts.map((prompt) => ({
      sequence: executor.newSequence(),
      recorder: new CommitmentRecorder(sha256, { keepsLeaves: true }),
      tokens: prompt.slice(0, positions),
    }));
  // 1. Prompts and draws, mixed with those of the other sequences.
  const quickRuns = start(quick);
  while (quickRuns.some(({ sequence }) => sequence.length < positions)) {
    stepMixed(quick, quickRuns, positions, sampler);
  }
  // 2. The same tokens one by one, each sequence in its turn.
  const total = positions * prompts.length;
  let compared = 0;
  const slowRuns = start(reference);
  for (let position = 0; position < positions; position++) {
    for (const [index, run] of slowRuns.entries()) {
      const other = quickRuns[index]!;
      step(reference, [{ run, tokens: [other.tokens[position]!] }]);
      const layer = differenceAt(position, run.recorder, other.recorder);
      const difference = layer === undefined ? null : { sequence: index, position, layer };
      yield { positions: ++compared, total, difference };
      if (difference !== null) return;
    }
  }
}

/** One step with as many rows as fit; whoever has no token left draws one. */
function stepMixed(
  executor: Executor,
  runs: readonly Run[],
  positions: number,
  sampler: SamplerParameters,
): void {
  const shares: { run: Run; tokens: number[] }[] = [];
  let room = executor.rowsMax;
  for (const run of runs) {
    const { length } = run.sequence;
    const tokens = run.tokens.slice(length, length + room);
    room -= tokens.length;
    if (tokens.length > 0) shares.push({ run, tokens });
  }
  for (const [i, logits] of step(executor, shares).entries()) {
    const { tokens, sequence } = shares[i]!.run;
    if (sequence.length < tokens.length || tokens.length >= positions) continue;
    tokens.push(sampleToken(logits, sampler, new Map(), tokens.length));
  }
}

/** Evaluates and records; returns the last logits of each share. */
function step(executor: Executor, shares: readonly { run: Run; tokens: readonly number[] }[]): Int32Array[] {
  const firsts = shares.map((_, i) => shares.slice(0, i).reduce((sum, { tokens }) => sum + tokens.length, 0));
  const listeners = shares.map(({ run, tokens }, i) =>
    run.recorder.listener((row) =>
      row >= firsts[i]! && row < firsts[i]! + tokens.length ? row - firsts[i]! : -1,
    ),
  );
  const rows = shares.flatMap(({ run, tokens }) =>
    tokens.map((input) => ({ sequence: run.sequence, input, wantsLogits: true })),
  );
  const outputs = executor.step(rows, (row, layer, bytes) => {
    for (const listener of listeners) listener(row, layer, bytes);
  });
  return shares.map(({ run, tokens }, i) => {
    const own = outputs.slice(firsts[i], firsts[i]! + tokens.length);
    run.recorder.close(tokens, own);
    return own.at(-1)!;
  });
}

/** Undefined: none. */
function differenceAt(
  position: number,
  a: CommitmentRecorder,
  b: CommitmentRecorder,
): Difference["layer"] | undefined {
  if (equalBytes(a.rows[position]!, b.rows[position]!)) return undefined;
  const layer = a.leaves[position]!.findIndex((leaf, i) => !equalBytes(leaf, b.leaves[position]![i]!));
  return layer === -1 ? null : layer;
}
