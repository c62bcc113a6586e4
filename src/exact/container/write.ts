/** Converts a model into a container, tensor by tensor. */
import type { ModelSource } from "../../formats/model-source.ts";
import { hashBytes, type Sha256 } from "../commitment/commitment.ts";
import { type ConversionLoss, convertModel, type ConvertOptions } from "../import/convert.ts";
import { exactShapeOf } from "../import/shape.ts";
import { manifestOf, modelIdOf, tokenizerBytes } from "../model/manifest.ts";
import { type ModelSink, tensorsOf } from "../model/sink.ts";
import { bytesOfMatrix, bytesOfNorm } from "../model/weight-bytes.ts";
import { weightRoot } from "../model/weight-root.ts";
import type { TokenizerData } from "../tokenizer/data.ts";
import { headerBytes, layout } from "./container.ts";

/** A file being written; what was never written is zero. */
export interface ByteTarget {
  write(at: number, bytes: Uint8Array): Promise<void>;
  /** Makes the file `size` bytes long. */
  finish(size: number): Promise<void>;
}

export interface ConvertedModel extends ConversionLoss {
  readonly modelId: string;
  readonly fileBytes: number;
}

/** @throws SkeinError `invalid_model_file`, `unsupported_model`, `cancelled` */
export async function writeContainer(
  source: ModelSource,
  parts: { readonly name: string; readonly tokenizer: TokenizerData },
  target: ByteTarget,
  sha256: Sha256,
  options: ConvertOptions,
): Promise<ConvertedModel> {
  const shape = exactShapeOf(source.shape);
  const { chatTemplate } = source;
  const quantization = options.quantization ?? "int8-row";
  const { name } = parts;
  const tokenizer = tokenizerBytes(parts.tokenizer);
  const count = tensorsOf(shape).length;
  const headerOf = (tensorRoots: readonly Uint8Array[]) => {
    const given = { tokenizerBytes: tokenizer, chatTemplate, tensorRoots };
    return { ...given, name, manifest: manifestOf(sha256, { ...given, quantization, shape }) };
  };
  // The header comes last, when all hashes are known, but takes the same room before.
  const start = headerBytes(headerOf(Array.from({ length: count }, () => new Uint8Array(hashBytes)))).length;
  const { offsets, fileBytes } = layout(shape, quantization, start);
  const roots: Uint8Array[] = [];
  const put = async (bytes: readonly Uint8Array[]): Promise<void> => {
    let at = offsets[roots.length]!;
    for (const part of bytes) {
      await target.write(at, part);
      at += part.length;
    }
    roots.push(weightRoot(sha256, bytes));
  };
  const sink: ModelSink = {
    norm: (_, weights) => put(bytesOfNorm(weights)),
    matrix: (_, matrix) => put(bytesOfMatrix(matrix)),
  };
  const loss = await convertModel(source, shape, sink, options);
  const header = headerOf(roots);
  await target.write(0, headerBytes(header));
  await target.finish(fileBytes);
  return { modelId: modelIdOf(sha256, header.manifest), fileBytes, ...loss };
}
