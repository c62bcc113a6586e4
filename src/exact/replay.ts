/**
 * Teacher-forced replay: reads given tokens and makes the commitments that whoever generated them has made, with many
 * rows in a step (prefill) or few. Receipts and audits rest on it.
 *
 * `tokens` are those that were read: the prompt, and the answer without its last token, which was chosen but not read.
 */
import { throwIfAborted } from "../util/abort.ts";
import { SkeinError } from "../util/errors.ts";
import type { Sha256 } from "./commitment/commitment.ts";
import { type ClosedRow, CommitmentRecorder } from "./commitment/recorder.ts";
import type { Executor, Sequence } from "./executor.ts";
import { checkCount } from "./step-checks.ts";
import { checkWhole, stepStages } from "./stages.ts";

export interface ReplayOptions {
  readonly sha256: Sha256;
  readonly tokens: readonly number[];
  /** Of them so many are the prompt's, at least one. What is committed to does not depend on it. */
  readonly promptLength: number;
  /** Rows of a step at most; default: as many as all stages take, `chunkRowsMax`, and `logitsBytesMax` allow. */
  readonly chunkRows?: number;
  /** Where logits are handed out, to check draws: nothing commits to them. Default: `answer`, the prompt's last position included. */
  readonly logits?: "none" | "answer" | "all";
}

/** What was made of one token. */
export interface ReplayedRow extends ClosedRow {
  readonly position: number;
  readonly token: number;
  /** Behind this token; null where none were asked for. */
  readonly logits: Int32Array | null;
  /** Before the next row, many rows are computed. */
  readonly endsStep: boolean;
}

/** What an answer commits to: compact, whatever its length. */
export interface Commitment {
  readonly positions: number;
  readonly execRoot: Uint8Array;
  /** Head of the chain after the last position. */
  readonly chain: Uint8Array;
}

/** Rows of a step: where reading weights is spread over enough tokens, and a cancellation waits for one step only. */
const chunkRowsMax = 64;
/** Logits of a step that are in memory at the same time. */
const logitsBytesMax: number = 32 * 1024 * 1024;

/**
 * Yields every position in order; breaking off frees what it took. Holds 32 bytes a position, and the executors'
 * keys and values.
 *
 * @param stages all layers of one model, in order; usually one executor
 * @throws SkeinError `invalid_request` for tokens, lengths or stages that do not fit, `context_length_exceeded`, `overloaded`
 */
export function* replayRows(
  stages: readonly Executor[],
  { sha256, tokens, promptLength, chunkRows, logits: wanted = "answer" }: ReplayOptions,
): Generator<ReplayedRow, Commitment> {
  checkWhole(stages);
  checkTokens(stages, tokens, promptLength);
  if (chunkRows !== undefined) checkCount("The number of rows", chunkRows, 1);
  const rowsMax = Math.min(chunkRows ?? chunkRowsMax, ...stages.map((stage) => stage.rowsMax));
  const logitRowsMax = Math.floor(logitsBytesMax / (4 * stages[0]!.shape.vocabularySize));
  const logitsFrom = { none: tokens.length, answer: promptLength - 1, all: 0 }[wanted];
  const recorder = new CommitmentRecorder(sha256);
  const sequences: Sequence[] = [];
  try {
    for (const stage of stages) sequences.push(stage.newSequence());
    for (let at = 0; at < tokens.length;) {
      // Rows without logits first: those with logits are bounded by memory, too.
      const wantsLogits = at >= logitsFrom;
      const room = wantsLogits ? logitRowsMax : logitsFrom - at;
      const chunk = tokens.slice(at, at + Math.max(1, Math.min(rowsMax, room)));
      const rows = chunk.map((input) => ({ sequences, input, wantsLogits }));
      const outputs = stepStages(stages, rows, recorder.listener());
      for (const [i, token] of chunk.entries()) {
        const closed = recorder.closeNext(token);
        yield { position: at + i, token, ...closed, logits: outputs[i]!, endsStep: i + 1 === chunk.length };
      }
      at += chunk.length;
    }
    return { positions: tokens.length, execRoot: recorder.execRoot(), chain: recorder.chain };
  } finally {
    for (const sequence of sequences) sequence.free();
  }
}

/**
 * `replayRows` to its end, with a turn for others between steps; a step is never interrupted.
 *
 * @throws SkeinError as `replayRows`, `cancelled`; whatever `onRow` throws ends the replay
 */
export async function replay(
  stages: readonly Executor[],
  options: ReplayOptions,
  { signal, onRow }: { readonly signal: AbortSignal; readonly onRow?: (row: ReplayedRow) => void },
): Promise<Commitment> {
  const rows = replayRows(stages, options);
  try {
    for (;;) {
      throwIfAborted(signal);
      const { done, value } = rows.next();
      if (done === true) return value;
      onRow?.(value);
      if (value.endsStep) await new Promise((resolve) => setTimeout(resolve));
    }
  } finally {
    rows.return?.(undefined as never);
  }
}

/** Before anything is computed: whoever asks for a replay may not be trusted. */
function checkTokens(stages: readonly Executor[], tokens: readonly number[], promptLength: number): void {
  if (!Number.isInteger(promptLength) || promptLength < 1 || promptLength > tokens.length) {
    const what = `${tokens.length} tokens with a prompt of ${promptLength}`;
    throw new SkeinError("invalid_request", `There is nothing to replay in ${what}.`);
  }
  const contextTokens = Math.min(...stages.map(({ contextTokensMax }) => contextTokensMax));
  if (tokens.length > contextTokens) {
    throw new SkeinError(
      "context_length_exceeded",
      `${tokens.length} tokens do not fit in this model's context of ${contextTokens}.`,
    );
  }
  const { vocabularySize } = stages[0]!.shape;
  const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabularySize);
  if (wrong !== undefined) {
    throw new SkeinError(
      "invalid_request",
      `Token id ${wrong} is not in the vocabulary of ${vocabularySize}.`,
    );
  }
}
