/** Many honest answers at once, and their audits in steps of several sizes. */
import type { LoadedModel } from "../../src/engine/exact/load.ts";
import { sha256 } from "../../src/engine/sha256.ts";
import { CommitmentRecorder } from "../../src/exact/commitment/recorder.ts";
import { samplerParameters } from "../../src/exact/sampler/parameters.ts";
import { sampleToken } from "../../src/exact/sampler/sampler.ts";
import type { Sampling } from "../../src/protocol/generate.ts";
import { type ClaimedAnswer, replayAnswer } from "../../src/receipt/replay.ts";

export interface HonestAnswer {
  readonly promptTokens: readonly number[];
  readonly outputTokens: number[];
  readonly sampling: Sampling;
  readonly execution: { readonly positions: number; readonly root: Uint8Array; readonly chain: Uint8Array };
}

interface Running extends Omit<HonestAnswer, "execution"> {
  readonly recorder: CommitmentRecorder;
  readonly sequence: ReturnType<LoadedModel["executor"]["newSequence"]>;
  readonly counts: Map<number, number>;
}

/** Generates answers side by side, as continuous batching does. Ends of the model's own are drawn over: all are equally long. */
export function generateTogether(
  { executor }: LoadedModel,
  prompts: readonly (readonly number[])[],
  samplings: readonly Sampling[],
  outputTokens: number,
): HonestAnswer[] {
  const running: Running[] = prompts.map((promptTokens, i) => ({
    promptTokens,
    outputTokens: [],
    sampling: samplings[i]!,
    recorder: new CommitmentRecorder(sha256),
    sequence: executor.newSequence(),
    counts: new Map(),
  }));
  for (const one of running) {
    for (const input of one.promptTokens.slice(0, -1)) read(executor, [one], [input], false);
  }
  for (let place = 0; place < outputTokens; place++) {
    const inputs = running.map((one) => one.outputTokens.at(-1) ?? one.promptTokens.at(-1)!);
    const logits = read(executor, running, inputs, true);
    for (const [i, one] of running.entries()) {
      const token = sampleToken(logits[i]!, samplerParameters(one.sampling), one.counts, place);
      one.outputTokens.push(token);
      one.counts.set(token, (one.counts.get(token) ?? 0) + 1);
    }
  }
  return running.map(({ recorder, sequence, promptTokens, outputTokens: tokens, sampling }) => {
    sequence.free();
    const execution = { positions: recorder.rows.length, root: recorder.execRoot(), chain: recorder.chain };
    return { promptTokens, outputTokens: tokens, sampling, execution };
  });
}

function read(
  executor: LoadedModel["executor"],
  running: readonly Running[],
  inputs: readonly number[],
  wantsLogits: boolean,
): (Int32Array | null)[] {
  const listeners = running.map(({ recorder }, own) => recorder.listener((row) => (row === own ? 0 : -1)));
  const rows = running.map(({ sequence }, i) => ({ sequence, input: inputs[i]!, wantsLogits }));
  const outputs = executor.step(rows, (row, layer, bytes) => listeners[row]!(row, layer, bytes));
  for (const [i, { recorder }] of running.entries()) recorder.closeNext(inputs[i]!);
  return outputs;
}

/** Whether an audit finds the answer wrong. */
export function isAccused({ executor }: LoadedModel, answer: HonestAnswer): boolean {
  const claimed: ClaimedAnswer = {
    promptTokens: answer.promptTokens,
    outputTokens: answer.outputTokens,
    sampler: samplerParameters(answer.sampling),
    isEnd: () => false,
    claims: [answer.execution],
    hasEnd: false,
    known: null,
    mask: null,
  };
  const steps = replayAnswer({ sha256, executor }, claimed);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value.fault !== null;
  }
}
