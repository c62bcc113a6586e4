/** From a request's floating-point parameters to the sampler's integers: products and roundings that IEEE 754 defines. */
import type { Sampling } from "../../protocol/generate.ts";
import { inverseTemperatureMax, type SamplerParameters } from "./sampler.ts";

const one: number = 2 ** 16;
/** Nats in 2^−12; penalties and bias of OpenAI's API stay far below. */
const natsMax = 1_000;

export function samplerParameters(sampling: Sampling): SamplerParameters {
  const { temperature, topK, topP, minP, presencePenalty, frequencyPenalty, logitBias, seed } = sampling;
  return {
    inverseTemperature:
      temperature > 0 ? Math.max(1, Math.min(inverseTemperatureMax, Math.round(one / temperature))) : 0,
    topK,
    topP: fraction(topP),
    minP: fraction(minP),
    presencePenalty: nats(presencePenalty),
    frequencyPenalty: nats(frequencyPenalty),
    bias: new Map(logitBias.map(([id, value]) => [id, nats(value)])),
    key: [seed >>> 0, 0],
  };
}

function fraction(p: number): number {
  return Math.round(Math.min(1, Math.max(0, p)) * one);
}

function nats(value: number): number {
  return Math.round(Math.min(natsMax, Math.max(-natsMax, value)) * 4_096);
}
