/**
 * The reference: a decoder in plain TypeScript that reads like the specification (docs/EXACT.md). Every other
 * executor is tested against it, bit by bit.
 */
import { type Block, toBlock } from "../ops/integers.ts";
import {
  addSaturating,
  attend,
  embed,
  gatedBlock,
  linear,
  normHead,
  normToBlock,
  rotate,
  toCacheBlock,
} from "../ops/operations.ts";
import {
  activationBits,
  type ExactLayer,
  type ExactModel,
  type ExactShape,
  ffnBits,
  ffnFraction,
  logitBits,
  logitFraction,
  qkvBits,
  qkvFraction,
  queryBits,
  residualBits,
  residualFraction,
} from "../model/model.ts";

/** What one layer keeps of one position: a key and a value for each head of keys. */
export interface KeyValue {
  readonly keys: readonly Block[];
  readonly values: readonly Block[];
}

/** The residual vector of a token before the first layer. */
export function embedToken(model: ExactModel, token: number): Int32Array {
  return embed(model.embedding!, token, residualFraction, residualBits);
}

/**
 * One decoder layer for one token. `past` holds what the layer keeps of all earlier positions; that of this token is
 * added to it. Returns the residual vector behind the layer.
 */
export function decodeLayer(
  shape: ExactShape,
  layer: ExactLayer,
  past: KeyValue[],
  residual: Int32Array,
): Int32Array {
  const position = past.length;
  // 1. What this token asks (query), offers to later ones (key), and would tell them (value).
  const normed = normToBlock(residual, layer.attnNorm, shape.normEpsilon);
  const ask = (matrix: ExactLayer["q"]): Int32Array[] =>
    headsOf(linear(matrix, normed, qkvFraction, qkvBits), shape.headDim);
  const norm = (head: Int32Array, weights: ExactLayer["qNorm"]): Int32Array =>
    weights === null ? head : normHead(head, weights, shape.headNormEpsilon);
  const queries = ask(layer.q).map((head) => rotate(norm(head, layer.qNorm), shape.turns, position));
  const keys = ask(layer.k).map((head) => rotate(norm(head, layer.kNorm), shape.turns, position));
  past.push({ keys: keys.map(toCacheBlock), values: ask(layer.v).map(toCacheBlock) });
  // 2. Each query head reads from the positions so far; several share one head of keys.
  const group = shape.heads / shape.headsKv;
  const read = queries.flatMap((query, head) => {
    const kv = Math.floor(head / group);
    return [
      ...attend(
        toBlock(query, -qkvFraction, queryBits),
        past.map((of) => of.keys[kv]!),
        past.map((of) => of.values[kv]!),
      ),
    ];
  });
  const attended = toBlock(read, -qkvFraction, activationBits);
  const withAttention = addSaturating(
    residual,
    linear(layer.attnOutput, attended, residualFraction, residualBits),
    residualBits,
  );
  // 3. The token by itself: a gated network of two matrices and a third one back.
  const again = normToBlock(withAttention, layer.ffnNorm, shape.normEpsilon);
  const hidden = gatedBlock(
    linear(layer.gate, again, ffnFraction, ffnBits),
    linear(layer.up, again, ffnFraction, ffnBits),
  );
  const change = linear(layer.down, hidden, residualFraction, residualBits);
  return addSaturating(withAttention, change, residualBits);
}

/** Logits of the next token, with `logitFraction` fractional bits. */
export function logitsOf(model: ExactModel, residual: Int32Array): Int32Array {
  const normed = normToBlock(residual, model.outputNorm!, model.shape.normEpsilon);
  return linear(model.output ?? model.embedding!, normed, logitFraction, logitBits);
}

function headsOf(x: Int32Array, headDim: number): Int32Array[] {
  return Array.from({ length: x.length / headDim }, (_, head) =>
    x.subarray(head * headDim, (head + 1) * headDim),
  );
}
