/**
 * The manifest says what a model is; its hash is the model's identity (docs/EXACT.md, "Manifest"). Who has the same `modelId` gets
 * the same bits for the same tokens, and reads text as the same tokens.
 */
import { encode, rfc8949EncodeOptions } from "cborg";
import { toHex } from "../../util/bytes.ts";
import { merkleRoot, type Sha256 } from "../commitment/commitment.ts";
import { opsHash, opsVersion } from "../ops/version.ts";
import type { TokenizerData } from "../tokenizer/data.ts";
import type { ExactShape, Quantization } from "./model.ts";

export interface Manifest {
  readonly version: 0;
  readonly opsVersion: number;
  /** SHA-256 of the conformance vectors of these operations. */
  readonly opsHash: Uint8Array;
  readonly quantization: Quantization;
  readonly shape: ExactShape;
  /** SHA-256 of `tokenizerBytes`. */
  readonly tokenizer: Uint8Array;
  /** SHA-256 of the chat template in UTF-8; of nothing when there is none. */
  readonly template: Uint8Array;
  /** Merkle root over the roots of all tensors in canonical order. */
  readonly weights: Uint8Array;
}

export interface ManifestParts {
  readonly quantization: Quantization;
  readonly shape: ExactShape;
  /** See `tokenizerBytes`. */
  readonly tokenizerBytes: Uint8Array;
  readonly chatTemplate: string | null;
  readonly tensorRoots: readonly Uint8Array[];
}

export function manifestOf(sha256: Sha256, parts: ManifestParts): Manifest {
  return {
    version: 0,
    opsVersion,
    opsHash,
    quantization: parts.quantization,
    shape: parts.shape,
    tokenizer: sha256(parts.tokenizerBytes),
    template: sha256(new TextEncoder().encode(parts.chatTemplate ?? "")),
    weights: merkleRoot(sha256, parts.tensorRoots),
  };
}

/** Canonical CBOR (RFC 8949, 4.2.1); every number in it is an integer. */
export function manifestBytes(manifest: Manifest): Uint8Array {
  return encode(manifest, rfc8949EncodeOptions);
}

export function modelIdOf(sha256: Sha256, manifest: Manifest): string {
  return `exact-sha256:${toHex(sha256(manifestBytes(manifest)))}`;
}

export function tokenizerBytes(tokenizer: TokenizerData): Uint8Array {
  const { types, scores, fillInMiddleIds, ...rest } = tokenizer;
  return encode(
    {
      ...rest,
      types: types.slice(),
      scores: scores === null ? null : scoreBytes(scores),
      fillInMiddleIds: { ...fillInMiddleIds },
    },
    rfc8949EncodeOptions,
  );
}

/** 32-bit floats, little-endian. */
export function scoreBytes(scores: Float32Array): Uint8Array {
  const bytes = new Uint8Array(4 * scores.length);
  const view = new DataView(bytes.buffer);
  for (const [i, score] of scores.entries()) view.setFloat32(4 * i, score, true);
  return bytes;
}
