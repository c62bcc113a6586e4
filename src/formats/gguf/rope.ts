import type { Rope } from "../model-source.ts";
import { invalidModelFile, shown, unsupportedModel } from "../errors.ts";
import { areUsable, plainFrequencies, yarnFrequencies, yarnMagnitude } from "../rope.ts";
import type { GgufKeys } from "./keys.ts";

/** llama.cpp's own values when it is not told others; files for the architectures here cannot change them. */
const yarnBetaFast = 32;
const yarnBetaSlow = 1;

/**
 * Frequencies as llama.cpp derives them (`llama_context` and `rope_yarn` of ggml).
 * @param factors of the tensor `rope_freqs.weight` (Llama 3): each divides its frequency
 * @throws SkeinError
 */
export function readRope(name: string, keys: GgufKeys, headDim: number, factors: Float32Array | null): Rope {
  const base = keys.real("rope.freq_base", 10_000);
  if (!(base > 1)) throw invalidModelFile(name, `has the rotary base ${base}`);
  const type = keys.text("rope.scaling.type", "linear");
  const factor = type === "none" ? 1 : factorOf(name, keys);
  const plain = plainFrequencies(headDim, base).map((frequency, i) => frequency / (factors?.[i] ?? 1));
  const attentionFactor = keys.real("rope.scaling.attn_factor", 1);
  const rope = scaled(type);
  if (areUsable(rope.ropeFrequencies, rope.ropeMagnitude)) return rope;
  throw invalidModelFile(name, "has rotary frequencies that are not positive, finite numbers");

  function scaled(scaling: string): Rope {
    switch (scaling) {
      case "none":
      case "linear":
        return { ropeFrequencies: plain.map((one) => one / factor), ropeMagnitude: attentionFactor };
      case "yarn":
        return {
          ropeFrequencies: yarnFrequencies(plain, {
            base,
            factor,
            originalContext: keys.positive(
              "rope.scaling.original_context_length",
              keys.positive("context_length"),
            ),
            betaFast: yarnBetaFast,
            betaSlow: yarnBetaSlow,
            isTruncated: true,
          }),
          // llama.cpp sets its own factor such that ggml's one on top gives exactly this.
          ropeMagnitude: yarnMagnitude(factor) * attentionFactor,
        };
      default:
        throw unsupportedModel(
          name,
          `scales its rotary positions by ${shown(scaling)}`,
          "The exact engine computes none, linear and yarn.",
        );
    }
  }
}

/** Zero stands for none. */
function factorOf(name: string, keys: GgufKeys): number {
  const key = keys.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const factor = keys.real(key, 0);
  if (factor < 0) throw invalidModelFile(name, `has ${factor} under the key ${key}`);
  return factor === 0 ? 1 : factor;
}
