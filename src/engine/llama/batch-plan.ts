/** How large a step may be, and the order in which llama.cpp evaluates it. */
import type { StepLimits } from "../step-plan.ts";

/** Tokens of one step. Larger steps prefill faster but make decoding sequences wait longer. */
export const batchTokensMax = 512;
/**
 * Tokens of prompts in a step in which others decode: reading in steps of 128 instead of 512 costs 4 %
 * (113M parameters, Q8_0, one core), and the answers that are being written pause a quarter as long.
 */
const sharedPrefillTokensMax = 128;

export const stepLimits: StepLimits = { prefillTokensMax: batchTokensMax, sharedPrefillTokensMax };

/**
 * Two ways to decode one token of several sequences. `together` is one pass over the weights: right for
 * GPUs and most processors. `apart` is a pass for each: some processors have a much faster kernel for
 * single tokens (a zen4 core: 4 passes over Q8_0 weights take 17 ms, one pass for 4 tokens 28 ms).
 */
export type Arrangement = "together" | "apart";

/** Samples of both before the faster is chosen. */
const trialsMin = 3;
/** Then the other is tried once in so many steps: the machine may have become busy or idle. */
const retryIntervalSteps = 1024;
/** Not even tried when it would probably take so much longer. */
const hopelessFactor = 1.3;
/** Weight of a new sample in the moving average. */
const sampleWeight = 0.2;

/** Chooses the faster arrangement for each number of sequences from what earlier steps took. */
export class ArrangementChooser {
  readonly #seen = new Map<number, { steps: number; together: Pace; apart: Pace }>();

  choose(sequences: number): Arrangement {
    const { steps, together, apart } = this.#of(sequences);
    if (sequences === 1 || together.samples < trialsMin) return "together";
    if (apart.samples < trialsMin) return this.#isHopeless(sequences, together.ms) ? "together" : "apart";
    const faster = apart.ms < together.ms ? "apart" : "together";
    if (steps % retryIntervalSteps !== 0) return faster;
    return faster === "apart" ? "together" : "apart";
  }

  learn(sequences: number, arrangement: Arrangement, stepMs: number): void {
    const seen = this.#of(sequences);
    const pace = seen[arrangement];
    seen.steps += 1;
    pace.samples += 1;
    pace.ms = pace.samples === 1 ? stepMs : pace.ms + sampleWeight * (stepMs - pace.ms);
  }

  /** Whether as many single steps as are known would take clearly longer than one together. */
  #isHopeless(sequences: number, togetherMs: number): boolean {
    const single = this.#of(1).together;
    return single.samples >= trialsMin && single.ms * sequences > hopelessFactor * togetherMs;
  }

  #of(sequences: number): { steps: number; together: Pace; apart: Pace } {
    const known = this.#seen.get(sequences);
    if (known !== undefined) return known;
    const fresh = { steps: 0, together: { samples: 0, ms: 0 }, apart: { samples: 0, ms: 0 } };
    this.#seen.set(sequences, fresh);
    return fresh;
  }
}

interface Pace {
  samples: number;
  ms: number;
}

/**
 * Slots between the first and the last of `ids` that are missing. llama.cpp splits a batch wherever the
 * slots of its sequences are not consecutive, so a gap costs a pass over the weights and a dummy token
 * in it next to nothing. No answer when the gaps are more than the sequences.
 */
export function gapsBetween(ids: readonly number[]): number[] {
  const gaps: number[] = [];
  for (let i = 1; i < ids.length; i++) {
    for (let id = ids[i - 1]! + 1; id < ids[i]!; id++) gaps.push(id);
  }
  return gaps.length > ids.length ? [] : gaps;
}
