/** The shape of a decoder in integers. */
import type { DecoderShape } from "../../formats/model-source.ts";
import { checkShape, contextTokensMaxSupported } from "../model/limits.ts";
import { type ExactShape, qkvFraction, residualFraction } from "../model/model.ts";
import { turnBits } from "../ops/rotation.ts";
import { roundHalfAway } from "./quantize.ts";

/** @throws SkeinError `unsupported_model` when a limit of the arithmetic does not hold */
export function exactShapeOf(shape: DecoderShape): ExactShape {
  const epsilon = (n: number, fraction: number): number =>
    roundHalfAway(n * shape.rmsEpsilon * 4 ** fraction);
  const exact: ExactShape = {
    layers: shape.layers,
    dim: shape.dim,
    heads: shape.heads,
    headsKv: shape.headsKv,
    headDim: shape.headDim,
    ffnDim: shape.ffnDim,
    vocabularySize: shape.vocabularySize,
    contextTokensMax: Math.min(shape.contextTokensMax, contextTokensMaxSupported),
    normEpsilon: epsilon(shape.dim, residualFraction),
    headNormEpsilon: shape.hasQkNorm ? epsilon(shape.headDim, qkvFraction) : 0,
    turns: shape.ropeFrequencies.map((radians) => roundHalfAway((radians / (2 * Math.PI)) * 2 ** turnBits)),
    hasTiedEmbeddings: shape.hasTiedEmbeddings,
    hasQkvBias: shape.hasQkvBias,
    hasQkNorm: shape.hasQkNorm,
  };
  checkShape(exact);
  return exact;
}
