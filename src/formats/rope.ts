/**
 * Rotary frequencies as llama.cpp (`rope_yarn` of ggml) and Hugging Face transformers (`modeling_rope_utils.py`)
 * compute them. Both agree; where their parameters differ, the readers of their files say so. Powers and logarithms are rounded
 * to the nearest double, everything else is IEEE 754 arithmetic: frequencies are the same on every platform.
 */
import { nearestInversePower, nearestLog } from "./nearest.ts";

/** Angle per position of pair i: base^(-2i / headDim) (RoPE, Su et al. 2021). */
export function plainFrequencies(headDim: number, base: number): number[] {
  return Array.from({ length: headDim / 2 }, (_, i) => nearestInversePower(base, 2 * i, headDim));
}

export interface Llama3Scaling {
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalContext: number;
}

/** Slow rotations are slowed down by the factor, fast ones stay, those between are mixed (Llama 3.1). */
export function llama3Frequencies(frequencies: readonly number[], scaling: Llama3Scaling): number[] {
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = scaling;
  return frequencies.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < originalContext / highFreqFactor) return frequency;
    if (wavelength > originalContext / lowFreqFactor) return frequency / factor;
    const smooth = (originalContext / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

export interface YarnScaling {
  readonly base: number;
  readonly factor: number;
  readonly originalContext: number;
  /** Rotations over the original context above which a pair stays, and below which it is slowed down. */
  readonly betaFast: number;
  readonly betaSlow: number;
  /** The borders are whole numbers of pairs, as in the paper's code. */
  readonly isTruncated: boolean;
}

/**
 * YaRN (Peng et al. 2023): fast pairs stay, slow ones are slowed down by the factor, a ramp between. Empty when the
 * ramp would go backwards: there the two programs differ.
 */
export function yarnFrequencies(frequencies: readonly number[], scaling: YarnScaling): number[] {
  const { base, factor, originalContext, betaFast, betaSlow, isTruncated } = scaling;
  const headDim = 2 * frequencies.length;
  const pairOf = (rotations: number): number =>
    (headDim * nearestLog(originalContext / (rotations * 2 * Math.PI))) / (2 * nearestLog(base));
  const [fast, slow] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(0, isTruncated ? Math.floor(fast) : fast);
  const high = Math.min(headDim - 1, isTruncated ? Math.ceil(slow) : slow);
  if (!(low <= high)) return [];
  return frequencies.map((frequency, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / Math.max(0.001, high - low)));
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
}

/** What YaRN multiplies cosine and sine with. */
export function yarnMagnitude(factor: number, multiplier = 1): number {
  return factor <= 1 ? 1 : 0.1 * multiplier * nearestLog(factor) + 1;
}

export function areUsable(frequencies: readonly number[], magnitude: number): boolean {
  const isUsable = (value: number): boolean => Number.isFinite(value) && value > 0;
  return frequencies.length > 0 && isUsable(magnitude) && frequencies.every(isUsable);
}
