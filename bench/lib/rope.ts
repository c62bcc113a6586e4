/** Rotary positions with the scalings in use, computed as Hugging Face and llama.cpp do. */

export type RopeScaling =
  | { readonly kind: "none" }
  | { readonly kind: "linear"; readonly factor: number }
  | Llama3Scaling
  | { readonly kind: "yarn"; readonly factor: number; readonly originalContextTokens: number };

interface Llama3Scaling {
  readonly kind: "llama3";
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalContextTokens: number;
}

export interface RopeSettings {
  readonly base: number;
  readonly scaling: RopeScaling;
}

/** Both programs' defaults: pairs that turn more often than this over the original context stay as they are, */
const yarnTurnsFast = 32;
/** and pairs that turn less often are interpolated. */
const yarnTurnsSlow = 1;

/** Angle per position of each rotary pair. */
export function ropeFrequencies({ base, scaling }: RopeSettings, headDim: number): number[] {
  const plain = Array.from({ length: headDim / 2 }, (_, i) => base ** ((-2 * i) / headDim));
  switch (scaling.kind) {
    case "none":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "llama3": {
      const factors = llama3Factors(scaling, base, headDim);
      return plain.map((frequency, i) => frequency / factors[i]!);
    }
    case "yarn": {
      const pairAt = (turns: number): number =>
        (headDim * Math.log(scaling.originalContextTokens / (turns * 2 * Math.PI))) / (2 * Math.log(base));
      const low = Math.max(0, Math.floor(pairAt(yarnTurnsFast)));
      const high = Math.min(headDim - 1, Math.ceil(pairAt(yarnTurnsSlow)));
      return plain.map((frequency, i) => {
        const ramp = Math.min(1, Math.max(0, (i - low) / Math.max(0.001, high - low)));
        return (frequency / scaling.factor) * ramp + frequency * (1 - ramp);
      });
    }
  }
}

/** YaRN's factor on cosine and sine. */
export function ropeMagnitude({ scaling }: RopeSettings): number {
  return scaling.kind === "yarn" ? 1 + 0.1 * Math.log(scaling.factor) : 1;
}

/** Divisors of the frequencies (the tensor `rope_freqs.weight`); null unless the scaling is Llama 3's. */
export function ropeFactors({ base, scaling }: RopeSettings, headDim: number): number[] | null {
  return scaling.kind === "llama3" ? llama3Factors(scaling, base, headDim) : null;
}

function llama3Factors(scaling: Llama3Scaling, base: number, headDim: number): number[] {
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContextTokens } = scaling;
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * base ** ((2 * i) / headDim);
    const turns = originalContextTokens / wavelength;
    if (turns > highFrequencyFactor) return 1;
    if (turns < lowFrequencyFactor) return factor;
    const smooth = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}
