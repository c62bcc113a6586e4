/** Two executors side by side: whether they agree in every bit that is committed to, and where not. */
import { equalBytes, logitsHash, type Sha256 } from "./commitment/commitment.ts";
import { differingPart, type RowPart } from "./commitment/difference.ts";
import { CommitmentRecorder } from "./commitment/recorder.ts";
import type { Executor, Sequence } from "./executor.ts";
import { type ReplayedRow, replayRows } from "./replay.ts";
import { type SamplerParameters, sampleToken } from "./sampler/sampler.ts";

export interface Difference {
  readonly sequence: number;
  readonly position: number;
  /** The first part that differs; `logits`: only they do. */
  readonly part: RowPart | "logits";
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

/** A sequence in the quick executor. */
interface Run {
  readonly sequence: Sequence;
  readonly recorder: CommitmentRecorder;
  readonly tokens: number[];
  /** Hashes of the logits of each position. */
  readonly logits: Uint8Array[];
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
  // 1. Prompts and draws, mixed with those of the other sequences.
  const quickRuns = prompts.map((prompt): Run => ({
    sequence: quick.newSequence(),
    recorder: new CommitmentRecorder(sha256, { keepsLeaves: true }),
    tokens: prompt.slice(0, positions),
    logits: [],
  }));
  while (quickRuns.some(({ sequence }) => sequence.length < positions)) {
    stepMixed(sha256, quick, quickRuns, positions, sampler);
  }
  for (const { sequence } of quickRuns) sequence.free();
  // 2. The same tokens one by one, each sequence in its turn. Logits of all positions count.
  const replays = quickRuns.map(({ tokens }) =>
    replayRows([reference], { sha256, tokens, promptLength: 1, chunkRows: 1 }),
  );
  const total = positions * prompts.length;
  let compared = 0;
  try {
    for (let position = 0; position < positions; position++) {
      for (const [sequence, rows] of replays.entries()) {
        const { value } = rows.next() as IteratorYieldResult<ReplayedRow>;
        const { recorder, logits } = quickRuns[sequence]!;
        const isSame = equalBytes(logitsHash(sha256, value.logits!), logits[position]!);
        const inLogits = isSame ? null : ("logits" as const);
        const part = differingPart(value.leaves, recorder.leaves[position]!) ?? inLogits;
        const difference = part === null ? null : { sequence, position, part };
        yield { positions: ++compared, total, difference };
        if (difference !== null) return;
      }
    }
  } finally {
    for (const rows of replays) rows.return(undefined as never);
  }
}

/** One step with as many rows as fit; whoever has no token left draws one. */
function stepMixed(
  sha256: Sha256,
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
  for (const [i, logits] of step(sha256, executor, shares).entries()) {
    const { tokens, sequence } = shares[i]!.run;
    if (sequence.length < tokens.length || tokens.length >= positions) continue;
    tokens.push(sampleToken(logits, sampler, new Map(), tokens.length));
  }
}

/** Evaluates and records; returns the last logits of each share. */
function step(
  sha256: Sha256,
  executor: Executor,
  shares: readonly { run: Run; tokens: readonly number[] }[],
): Int32Array[] {
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
    run.recorder.close(tokens);
    run.logits.push(...own.map((logits) => logitsHash(sha256, logits!)));
    return own.at(-1)!;
  });
}
