/**
 * The model as it was meant: every operation in double precision, in the order of the published reference code. Other
 * engines are measured against it.
 */
import {
  type DecoderShape,
  extentOf,
  type ModelSource,
  type TensorRef,
} from "../../src/formats/model-source.ts";

/** Points of the computation that can be looked at, one vector per position each. */
export type ActivationPoint =
  | "attnInput"
  | "q"
  | "k"
  | "v"
  | "attnMix"
  | "ffnInput"
  | "ffnHidden"
  | "residual"
  | "outputInput";

export interface Activation {
  readonly point: ActivationPoint;
  /** `layers` for `outputInput`; the residual stream is shown after each layer. */
  readonly layer: number;
  readonly position: number;
  /** Valid only during the call; queries and keys are already rotated. */
  readonly values: Float64Array;
}

export interface FloatParent {
  readonly shape: DecoderShape;
  /** Logits of the token after each position: positions × vocabulary. */
  logits(tokenIds: readonly number[], onActivation?: (activation: Activation) => void): Float64Array;
}

interface Layer {
  readonly attnNorm: Float32Array;
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly qBias: Float32Array | null;
  readonly kBias: Float32Array | null;
  readonly vBias: Float32Array | null;
  readonly qNorm: Float32Array | null;
  readonly kNorm: Float32Array | null;
  readonly attnOutput: Float32Array;
  readonly ffnNorm: Float32Array;
  readonly gate: Float32Array;
  readonly up: Float32Array;
  readonly down: Float32Array;
}

interface Weights {
  readonly embedding: Float32Array;
  readonly layers: readonly Layer[];
  readonly outputNorm: Float32Array;
  readonly output: Float32Array;
}

type Watch = (point: ActivationPoint, layer: number, rows: Float64Array) => void;

/** Loads all weights; they stay the single-precision numbers they are, which doubles hold exactly. */
export async function openFloatParent(source: ModelSource, signal: AbortSignal): Promise<FloatParent> {
  const { shape } = source;
  const weights = await loadWeights(source, signal);
  return {
    shape,
    logits: (tokenIds, onActivation) => {
      const positions = tokenIds.length;
      const watch: Watch = (point, layer, rows) => {
        if (onActivation === undefined) return;
        const width = rows.length / positions;
        for (let position = 0; position < positions; position++) {
          const values = rows.subarray(position * width, (position + 1) * width);
          onActivation({ point, layer, position, values });
        }
      };
      return forward(shape, weights, tokenIds, watch);
    },
  };
}

async function loadWeights(source: ModelSource, signal: AbortSignal): Promise<Weights> {
  const { shape } = source;
  const load = (tensor: TensorRef): Promise<Float32Array> =>
    source.readRows(tensor, 0, extentOf(shape, tensor.kind).rows, signal);
  const layers: Layer[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    const bias = shape.hasQkvBias;
    const norm = shape.hasQkNorm;
    layers.push({
      attnNorm: await load({ kind: "attnNorm", layer }),
      q: await load({ kind: "q", layer }),
      k: await load({ kind: "k", layer }),
      v: await load({ kind: "v", layer }),
      qBias: bias ? await load({ kind: "qBias", layer }) : null,
      kBias: bias ? await load({ kind: "kBias", layer }) : null,
      vBias: bias ? await load({ kind: "vBias", layer }) : null,
      qNorm: norm ? await load({ kind: "qNorm", layer }) : null,
      kNorm: norm ? await load({ kind: "kNorm", layer }) : null,
      attnOutput: await load({ kind: "attnOutput", layer }),
      ffnNorm: await load({ kind: "ffnNorm", layer }),
      gate: await load({ kind: "gate", layer }),
      up: await load({ kind: "up", layer }),
      down: await load({ kind: "down", layer }),
    });
  }
  const embedding = await load({ kind: "embedding" });
  return {
    embedding,
    layers,
    outputNorm: await load({ kind: "outputNorm" }),
    output: shape.hasTiedEmbeddings ? embedding : await load({ kind: "output" }),
  };
}

function forward(
  shape: DecoderShape,
  weights: Weights,
  tokenIds: readonly number[],
  watch: Watch,
): Float64Array {
  const { dim } = shape;
  const residual = new Float64Array(tokenIds.length * dim);
  tokenIds.forEach((id, position) => {
    residual.set(weights.embedding.subarray(id * dim, (id + 1) * dim), position * dim);
  });
  weights.layers.forEach((layer, index) => {
    const attnInput = normed(residual, layer.attnNorm, shape.rmsEpsilon);
    watch("attnInput", index, attnInput);
    add(
      residual,
      attention(shape, layer, attnInput, (point, rows) => watch(point, index, rows)),
    );

    const ffnInput = normed(residual, layer.ffnNorm, shape.rmsEpsilon);
    watch("ffnInput", index, ffnInput);
    const hidden = product(ffnInput, layer.up, dim);
    const gate = product(ffnInput, layer.gate, dim);
    for (let i = 0; i < hidden.length; i++) hidden[i]! *= gate[i]! / (1 + Math.exp(-gate[i]!));
    watch("ffnHidden", index, hidden);
    add(residual, product(hidden, layer.down, shape.ffnDim));
    watch("residual", index, residual);
  });
  const outputInput = normed(residual, weights.outputNorm, shape.rmsEpsilon);
  watch("outputInput", shape.layers, outputInput);
  return product(outputInput, weights.output, dim);
}

function attention(
  shape: DecoderShape,
  layer: Layer,
  input: Float64Array,
  watch: (point: ActivationPoint, rows: Float64Array) => void,
): Float64Array {
  const { dim, heads, headsKv, headDim } = shape;
  // 1. Queries, keys and values of all positions.
  let q = product(input, layer.q, dim, layer.qBias);
  let k = product(input, layer.k, dim, layer.kBias);
  const v = product(input, layer.v, dim, layer.vBias);
  if (layer.qNorm !== null) q = normed(q, layer.qNorm, shape.rmsEpsilon);
  if (layer.kNorm !== null) k = normed(k, layer.kNorm, shape.rmsEpsilon);
  rotate(shape, q, heads);
  rotate(shape, k, headsKv);
  watch("q", q);
  watch("k", k);
  watch("v", v);
  // 2. Every head mixes the values of the positions up to its own.
  const positions = input.length / dim;
  const mix = new Float64Array(positions * heads * headDim);
  const scores = new Float64Array(positions);
  for (let head = 0; head < heads; head++) {
    const headKv = Math.floor(head / (heads / headsKv));
    for (let position = 0; position < positions; position++) {
      const at = (position * heads + head) * headDim;
      const query = q.subarray(at, at + headDim);
      softmaxScores(query, k, headKv * headDim, headsKv * headDim, scores.subarray(0, position + 1));
      for (let past = 0; past <= position; past++) {
        const from = (past * headsKv + headKv) * headDim;
        const share = scores[past]!;
        for (let i = 0; i < headDim; i++) mix[at + i]! += share * v[from + i]!;
      }
    }
  }
  watch("attnMix", mix);
  // 3. Back to the residual stream.
  return product(mix, layer.attnOutput, heads * headDim);
}

function softmaxScores(
  query: Float64Array,
  keys: Float64Array,
  offset: number,
  stride: number,
  scores: Float64Array,
): void {
  let largest = -Infinity;
  for (let past = 0; past < scores.length; past++) {
    let sum = 0;
    for (let i = 0; i < query.length; i++) sum += query[i]! * keys[past * stride + offset + i]!;
    scores[past] = sum / Math.sqrt(query.length);
    largest = Math.max(largest, scores[past]!);
  }
  let total = 0;
  for (let past = 0; past < scores.length; past++) {
    scores[past] = Math.exp(scores[past]! - largest);
    total += scores[past]!;
  }
  for (let past = 0; past < scores.length; past++) scores[past]! /= total;
}

/** Rotates pairs (i, i + headDim / 2) of every head by its position. */
function rotate(
  { headDim, ropeFrequencies, ropeMagnitude }: DecoderShape,
  rows: Float64Array,
  heads: number,
): void {
  const pairs = headDim / 2;
  const positions = rows.length / (heads * headDim);
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < pairs; pair++) {
      const cos = Math.cos(position * ropeFrequencies[pair]!) * ropeMagnitude;
      const sin = Math.sin(position * ropeFrequencies[pair]!) * ropeMagnitude;
      for (let head = 0; head < heads; head++) {
        const at = (position * heads + head) * headDim + pair;
        const x = rows[at]!;
        const y = rows[at + pairs]!;
        rows[at] = x * cos - y * sin;
        rows[at + pairs] = x * sin + y * cos;
      }
    }
  }
}

/** RMSNorm of each run of `weight.length` values. */
function normed(rows: Float64Array, weight: Float32Array, epsilon: number): Float64Array {
  const width = weight.length;
  const out = new Float64Array(rows.length);
  for (let from = 0; from < rows.length; from += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += rows[from + i]! ** 2;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) out[from + i] = rows[from + i]! * scale * weight[i]!;
  }
  return out;
}

function add(rows: Float64Array, more: Float64Array): void {
  for (let i = 0; i < rows.length; i++) rows[i]! += more[i]!;
}

/**
 * Every row of `input` times the matrix (out × columns). Four rows of the input at a time, because reading the matrix is
 * what takes the time.
 */
function product(
  input: Float64Array,
  matrix: Float32Array,
  columns: number,
  bias: Float32Array | null = null,
): Float64Array {
  const rows = input.length / columns;
  const width = matrix.length / columns;
  const out = new Float64Array(rows * width);
  for (let row = 0; row < rows; row += 4) {
    // Beyond the last row the last one is computed again.
    const [a, b, c, d] = [0, 1, 2, 3].map((i) => Math.min(row + i, rows - 1)) as [
      number,
      number,
      number,
      number,
    ];
    for (let to = 0; to < width; to++) {
      const base = bias?.[to] ?? 0;
      let sumA = 0;
      let sumB = 0;
      let sumC = 0;
      let sumD = 0;
      for (let i = 0, at = to * columns; i < columns; i++, at++) {
        const weight = matrix[at]!;
        sumA += weight * input[a * columns + i]!;
        sumB += weight * input[b * columns + i]!;
        sumC += weight * input[c * columns + i]!;
        sumD += weight * input[d * columns + i]!;
      }
      out[a * width + to] = sumA + base;
      out[b * width + to] = sumB + base;
      out[c * width + to] = sumC + base;
      out[d * width + to] = sumD + base;
    }
  }
  return out;
}
