import { invalidModelFile, shown, unsupportedModel } from "../errors.ts";
import type { Rope } from "../model-source.ts";
import { areUsable, llama3Frequencies, plainFrequencies, yarnFrequencies, yarnMagnitude } from "../rope.ts";
import type { ModelConfig, RopeConfig } from "./config.ts";

/** Of all classes of transformers. */
const thetaDefault = 10_000;
const betaFastDefault = 32;
const betaSlowDefault = 1;

/** Frequencies as transformers computes them (`modeling_rope_utils.py`). @throws SkeinError */
export function ropeOf(name: string, config: ModelConfig, headDim: number): Rope {
  // Since version 5 transformers keeps all in rope_parameters.
  const parameters = config.rope_parameters ?? config.rope_scaling ?? {};
  // GGUF stores it as a 32-bit float.
  const theta = Math.fround(parameters.rope_theta ?? config.rope_theta ?? thetaDefault);
  if (!(theta > 1)) throw invalidModelFile(name, `has the rotary base ${theta}`);
  const rope = scaled(name, config, parameters, headDim, theta);
  if (areUsable(rope.ropeFrequencies, rope.ropeMagnitude)) return rope;
  throw invalidModelFile(name, "has rotary frequencies that are not positive, finite numbers");
}

function scaled(
  name: string,
  config: ModelConfig,
  parameters: RopeConfig,
  headDim: number,
  theta: number,
): Rope {
  const type = parameters.rope_type ?? parameters.type ?? "default";
  const plain = plainFrequencies(headDim, theta);
  const originalContext =
    config.original_max_position_embeddings ??
    parameters.original_max_position_embeddings ??
    config.max_position_embeddings;
  const needed = (key: "factor" | "low_freq_factor" | "high_freq_factor"): number => {
    const value = parameters[key];
    if (typeof value === "number") return value;
    throw invalidModelFile(name, `lacks the value ${key} for rotary positions scaled by ${type}`);
  };
  switch (type) {
    case "default":
      return { ropeFrequencies: plain, ropeMagnitude: 1 };
    case "linear": {
      const factor = needed("factor");
      return { ropeFrequencies: plain.map((frequency) => frequency / factor), ropeMagnitude: 1 };
    }
    case "llama3": {
      const [lowFreqFactor, highFreqFactor] = [needed("low_freq_factor"), needed("high_freq_factor")];
      if (lowFreqFactor >= highFreqFactor) {
        throw invalidModelFile(name, `has low_freq_factor ${lowFreqFactor}, but high ${highFreqFactor}`);
      }
      const scaling = { factor: needed("factor"), lowFreqFactor, highFreqFactor, originalContext };
      return { ropeFrequencies: llama3Frequencies(plain, scaling), ropeMagnitude: 1 };
    }
    case "yarn": {
      const factor = parameters.factor ?? config.max_position_embeddings / originalContext;
      const betaFast = parameters.beta_fast ?? betaFastDefault;
      const betaSlow = parameters.beta_slow ?? betaSlowDefault;
      const isTruncated = parameters.truncate ?? true;
      const scaling = { base: theta, factor, originalContext, betaFast, betaSlow, isTruncated };
      return {
        ropeFrequencies: yarnFrequencies(plain, scaling),
        ropeMagnitude: parameters.attention_factor ?? attentionFactor(factor, parameters),
      };
    }
    default:
      throw unsupportedModel(
        name,
        `scales its rotary positions by ${shown(type)}`,
        "The exact engine computes default, linear, llama3 and yarn.",
      );
  }
}

function attentionFactor(factor: number, { mscale, mscale_all_dim: all }: RopeConfig): number {
  // Zero and null both stand for none.
  if (!mscale || !all) return yarnMagnitude(factor);
  return yarnMagnitude(factor, mscale) / yarnMagnitude(factor, all);
}
