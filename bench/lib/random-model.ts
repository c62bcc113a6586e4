/**
 * Decoders with random weights in every supported family's shape. Any row of any tensor can be drawn by itself, so
 * models larger than memory can be written, and the same seed gives the same weights in every kind of file.
 */
import {
  type DecoderArchitecture,
  type DecoderShape,
  extentOf,
  type ModelSource,
  type TensorRef,
} from "../../src/formats/model-source.ts";
import { type RopeSettings, ropeFrequencies, ropeMagnitude } from "./rope.ts";
import { isVector, storedType, tensorsOf } from "./tensors.ts";
import { roundedTo, type WeightType } from "./weight-types.ts";

export type RandomFamily =
  | "llama2"
  | "llama3"
  | "llama-linear"
  | "llama-yarn"
  | "mistral"
  | "smollm"
  | "qwen2"
  | "qwen2-tied"
  | "qwen3";

export interface RandomModelSpec {
  readonly family: RandomFamily;
  readonly layers: number;
  readonly dim: number;
  readonly ffnDim: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly headDim: number;
  readonly vocabularySize: number;
  readonly contextTokensMax: number;
  readonly rope: RopeSettings;
  readonly type: WeightType;
  readonly seed: number;
  /** Leading tokens that an untied output matrix gives the logit 0, so that greedy decoding never ends by itself. */
  readonly mutedTokens: number;
}

interface FamilyTraits {
  readonly architecture: DecoderArchitecture;
  readonly tied: boolean;
  readonly rmsEpsilon: number;
  readonly ropeBase: number;
  readonly headsKv: number;
}

const llama = { architecture: "llama", tied: false, rmsEpsilon: 1e-5, ropeBase: 10_000, headsKv: 2 } as const;
const qwen = { ...llama, rmsEpsilon: 1e-6, ropeBase: 1_000_000 } as const;

const families: Readonly<Record<RandomFamily, FamilyTraits>> = {
  llama2: { ...llama, headsKv: 4 },
  llama3: { ...llama, ropeBase: 500_000 },
  "llama-linear": llama,
  "llama-yarn": llama,
  mistral: { ...llama, architecture: "mistral", ropeBase: 1_000_000 },
  smollm: { ...llama, tied: true, headsKv: 1 },
  qwen2: { ...qwen, architecture: "qwen2" },
  "qwen2-tied": { ...qwen, architecture: "qwen2", tied: true },
  qwen3: { ...qwen, architecture: "qwen3" },
};

export const randomFamilies: readonly RandomFamily[] = Object.keys(families) as RandomFamily[];

/** Small enough for tests; Qwen 3's heads are wider than their share of the residual stream. */
export function microSpec(family: RandomFamily, changes: Partial<RandomModelSpec> = {}): RandomModelSpec {
  const contextTokensMax = changes.contextTokensMax ?? 512;
  return {
    family,
    layers: 2,
    dim: 64,
    ffnDim: 160,
    heads: 4,
    headsKv: families[family].headsKv,
    headDim: family === "qwen3" ? 32 : 16,
    vocabularySize: 2048,
    contextTokensMax,
    rope: ropeOf(family, contextTokensMax),
    type: "F32",
    seed: 1,
    mutedTokens: 4,
    ...changes,
  };
}

/** The family's usual settings; scalings reach from a quarter of the context to all of it. */
export function ropeOf(family: RandomFamily, contextTokensMax: number): RopeSettings {
  const base = families[family].ropeBase;
  const factor = 4;
  const originalContextTokens = contextTokensMax / factor;
  switch (family) {
    case "llama3":
      return {
        base,
        scaling: {
          kind: "llama3",
          factor: 8,
          lowFrequencyFactor: 1,
          highFrequencyFactor: 4,
          originalContextTokens,
        },
      };
    case "llama-linear":
      return { base, scaling: { kind: "linear", factor } };
    case "llama-yarn":
      return { base, scaling: { kind: "yarn", factor, originalContextTokens } };
    default:
      return { base, scaling: { kind: "none" } };
  }
}

export interface RandomModel extends ModelSource {
  readonly spec: RandomModelSpec;
}

/** Reads back what a file of the spec's type holds; vectors are F32 in every file. */
export function createRandomModel(spec: RandomModelSpec): RandomModel {
  const shape = shapeOf(spec);
  const parameters = tensorsOf(shape).reduce((sum, { kind }) => {
    const { rows, columns } = extentOf(shape, kind);
    return sum + BigInt(rows) * BigInt(columns);
  }, 0n);
  return {
    spec,
    shape,
    parameters,
    chatTemplate: null,
    weightType: spec.type,
    readRows: async (tensor, start, count, signal) => {
      signal.throwIfAborted();
      const { columns } = extentOf(shape, tensor.kind);
      const values = new Float32Array(count * columns);
      for (let i = 0; i < count; i++) {
        drawRow(spec, tensor, start + i, values.subarray(i * columns, (i + 1) * columns));
      }
      return roundedTo(storedType(tensor.kind, spec.type), values);
    },
  };
}

function shapeOf(spec: RandomModelSpec): DecoderShape {
  const { architecture, tied, rmsEpsilon } = families[spec.family];
  return {
    architecture,
    layers: spec.layers,
    dim: spec.dim,
    heads: spec.heads,
    headsKv: spec.headsKv,
    headDim: spec.headDim,
    ffnDim: spec.ffnDim,
    vocabularySize: spec.vocabularySize,
    contextTokensMax: spec.contextTokensMax,
    // Files hold it in single precision.
    rmsEpsilon: Math.fround(rmsEpsilon),
    ropeFrequencies: ropeFrequencies(spec.rope, spec.headDim),
    ropeMagnitude: ropeMagnitude(spec.rope),
    hasTiedEmbeddings: tied,
    hasQkvBias: architecture === "qwen2",
    hasQkNorm: architecture === "qwen3",
  };
}

// --- the weights ------------------------------------------------------------------------------

const tableSize = 1 << 16;

/**
 * Quantiles of Student's t distribution of 4 degrees of freedom, divided by its standard deviation: trained weights have
 * such tails (here up to 15 standard deviations), and this one has a closed form.
 */
const heavyTail: Float64Array = Float64Array.from({ length: tableSize }, (_, i) => {
  const p = (i + 0.5) / tableSize;
  const root = Math.sqrt(4 * p * (1 - p));
  const t = 2 * Math.sqrt(Math.max(0, Math.cos(Math.acos(root) / 3) / root - 1));
  return (p < 0.5 ? -t : t) / Math.SQRT2;
});

/** Gains that let activations keep their size, attention look somewhere, and logits spread over some units. */
function gainOf(spec: RandomModelSpec, kind: TensorRef["kind"]): number {
  const { dim, ffnDim } = spec;
  switch (kind) {
    case "embedding":
      return families[spec.family].tied ? 2.2 / Math.sqrt(dim) : 0.4;
    case "output":
      return 2.2 / Math.sqrt(dim);
    case "q":
    case "k":
      return 1.4 / Math.sqrt(dim);
    case "attnOutput":
      return 1 / Math.sqrt(spec.heads * spec.headDim);
    case "down":
      return 1 / Math.sqrt(ffnDim);
    case "qBias":
      return 0.5;
    case "kBias":
      return 1;
    case "vBias":
      return 0.2;
    case "qNorm":
    case "kNorm":
      return 1.4;
    default:
      return 1 / Math.sqrt(dim);
  }
}

function drawRow(spec: RandomModelSpec, tensor: TensorRef, row: number, out: Float32Array): void {
  if (tensor.kind === "output" && row < spec.mutedTokens) return;
  const gain = gainOf(spec, tensor.kind);
  let state = rowState(spec.seed, tensor, row);
  const draw = (): number => {
    state = nextDraw(state);
    return heavyTail[state >>> 16]!;
  };
  if (isVector(tensor.kind)) {
    const isNorm = tensor.kind.endsWith("Norm");
    const scale = tensor.kind === "qNorm" || tensor.kind === "kNorm" ? gain : 1;
    const values = out.map(() => (isNorm ? scale * Math.exp(0.3 * bounded(draw())) : gain * draw()));
    // Exact in BF16 and F16, too: Hugging Face's files store vectors like matrices.
    out.set(roundedTo("F16", roundedTo("BF16", values)));
    return;
  }
  const scale = gain * Math.exp(0.25 * bounded(draw()));
  for (let i = 0; i < out.length; i += 2) {
    state = nextDraw(state);
    out[i] = heavyTail[state >>> 16]! * scale;
    if (i + 1 < out.length) out[i + 1] = heavyTail[state & (tableSize - 1)]! * scale;
  }
}

function bounded(value: number): number {
  return Math.max(-2, Math.min(2, value));
}

/** A state of its own for every row: FNV-1a over the tensor's name, mixed by MurmurHash3's finish. */
function rowState(seed: number, tensor: TensorRef, row: number): number {
  let hash = 0x811c9dc5 ^ seed;
  const name = "layer" in tensor ? `${tensor.kind}.${tensor.layer}` : tensor.kind;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  hash ^= Math.imul(row + 1, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** xorshift32 (George Marsaglia, 2003); its state must not be zero. */
function nextDraw(state: number): number {
  let x = state === 0 ? 1 : state;
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  return x >>> 0;
}
