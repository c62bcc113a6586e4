/**
 * A model as its file describes it, before anything is converted: one shape for GGUF and safetensors. Numbers are the
 * file's own floating-point numbers; `exact/` turns them into integers.
 */

/** Families of decoders with RMSNorm, rotary positions, grouped-query attention and SwiGLU. */
export type DecoderArchitecture = "llama" | "mistral" | "qwen2" | "qwen3";

export interface DecoderShape {
  readonly architecture: DecoderArchitecture;
  readonly layers: number;
  /** Width of the residual stream. */
  readonly dim: number;
  readonly heads: number;
  /** Heads of keys and values; `heads` is a multiple of it. */
  readonly headsKv: number;
  readonly headDim: number;
  readonly ffnDim: number;
  readonly vocabularySize: number;
  readonly contextTokensMax: number;
  readonly rmsEpsilon: number;
  /**
   * Angle per position in radians of each rotary pair, `headDim / 2` of them, with all scaling (linear, Llama 3, YaRN)
   * applied.
   */
  readonly ropeFrequencies: readonly number[];
  /** YaRN's factor on cosine and sine; 1 without. */
  readonly ropeMagnitude: number;
  /** The output matrix is the embedding matrix. */
  readonly hasTiedEmbeddings: boolean;
  readonly hasQkvBias: boolean;
  /** RMSNorm of each head's query and key before the rotation (Qwen 3). */
  readonly hasQkNorm: boolean;
}

/** A shape before its rotary frequencies are computed. */
export type UnrotatedShape = Omit<DecoderShape, "ropeFrequencies" | "ropeMagnitude">;
export type Rope = Pick<DecoderShape, "ropeFrequencies" | "ropeMagnitude">;

export type LayerTensor =
  | "attnNorm"
  | "q"
  | "k"
  | "v"
  | "qBias"
  | "kBias"
  | "vBias"
  | "qNorm"
  | "kNorm"
  | "attnOutput"
  | "ffnNorm"
  | "gate"
  | "up"
  | "down";

export type TensorRef =
  | { readonly kind: "embedding" | "outputNorm" | "output" }
  | { readonly kind: LayerTensor; readonly layer: number };

export interface ModelSource {
  readonly shape: DecoderShape;
  /** Jinja source of the chat template. */
  readonly chatTemplate: string | null;
  /** What the weights are stored as, for people: "F16", "Q8_0", … */
  readonly weightType: string;
  readonly parameters: bigint;
  /**
   * Rows `[start, start + count)` of a matrix (`rows × columns`, row-major), or of a vector seen as one row.
   *
   * Rotary pairs of `q`, `k`, their biases and norms are channels (i, i + headDim / 2) of a head, whatever the file's
   * own order.
   * @throws SkeinError `invalid_model_file` on NaN or infinite values, or a file that changed; `cancelled`
   */
  readRows(tensor: TensorRef, start: number, count: number, signal: AbortSignal): Promise<Float32Array>;
}

type Widths = Pick<DecoderShape, "dim" | "ffnDim" | "heads" | "headsKv" | "headDim" | "vocabularySize">;

/** Rows and columns of a tensor; vectors are one row. */
export function extentOf(shape: Widths, tensor: TensorRef["kind"]): { rows: number; columns: number } {
  const { dim, ffnDim, headDim, vocabularySize } = shape;
  const q = shape.heads * headDim;
  const kv = shape.headsKv * headDim;
  switch (tensor) {
    case "embedding":
    case "output":
      return { rows: vocabularySize, columns: dim };
    case "outputNorm":
    case "attnNorm":
    case "ffnNorm":
      return { rows: 1, columns: dim };
    case "q":
      return { rows: q, columns: dim };
    case "k":
    case "v":
      return { rows: kv, columns: dim };
    case "qBias":
      return { rows: 1, columns: q };
    case "kBias":
    case "vBias":
      return { rows: 1, columns: kv };
    case "qNorm":
    case "kNorm":
      return { rows: 1, columns: headDim };
    case "attnOutput":
      return { rows: dim, columns: q };
    case "gate":
    case "up":
      return { rows: ffnDim, columns: dim };
    case "down":
      return { rows: dim, columns: ffnDim };
  }
}
