/** Embeddings: texts as vectors of unit length. The same shapes travel from the gateway to the engine and back. */
import type { Prompt } from "./generate.ts";

/** Inputs of one request to a provider; a client's request with more becomes several. */
export const embedInputsMax = 32;
/** Components of a vector; more than any model has. */
export const dimensionsMax = 16_384;

export type EmbedInput = Exclude<Prompt, { readonly kind: "chat" }>;

export interface EmbedRequest {
  readonly requestId: string;
  readonly modelId: string;
  /** At least one, at most `embedInputsMax`. */
  readonly inputs: readonly EmbedInput[];
  /** Components wanted of each vector; null: all. Only models that were trained for it give fewer. */
  readonly dimensions: number | null;
  /** As in a `GenerateRequest`. */
  readonly cacheSalt?: string;
  /** Milliseconds the provider may take in all before it gives up. */
  readonly timeoutMs: number;
}

export interface Embedded {
  /** One per input, in order: components as little-endian 32-bit floats, of length 1 together. */
  readonly vectors: readonly Uint8Array[];
  /** Tokens that the model read, of all inputs together. */
  readonly promptTokens: number;
  /** Whole milliseconds of engine time; a claim. */
  readonly durationMs: number;
}

/** Numbers as the bytes of a vector. */
export function vectorBytes(values: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < values.length; i++) view.setFloat32(4 * i, values[i]!, true);
  return bytes;
}

/** A vector's components. */
export function vectorValues(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}
