/** What the tests of the measuring tools share: random models in memory and in files. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { demoModel, readTokenizer, shapeMetadata, writeGguf } from "./gguf-writer.ts";
import { createRandomModel, type RandomModel, type RandomModelSpec } from "./random-model.ts";
import { ropeFactors } from "./rope.ts";

export const noAbort: AbortSignal = new AbortController().signal;

/** Tokens of the demo vocabulary that are not control tokens. */
export function plainTokens(count: number): number[] {
  return Array.from({ length: count }, (_, i) => 4 + ((i * 7919) % 2040));
}

export async function inTemporaryFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "skein-oracle-"));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export async function writeRandom(path: string, spec: RandomModelSpec): Promise<RandomModel> {
  const model = createRandomModel(spec);
  const tokenizer = await readTokenizer(demoModel);
  const metadata = [...shapeMetadata(model.shape, spec.rope, spec.type, spec.family), ...tokenizer.metadata];
  await writeGguf(path, model, spec.type, metadata, ropeFactors(spec.rope, spec.headDim));
  return model;
}

/** Largest difference, and the reference's standard deviation. */
export function difference(
  reference: ArrayLike<number>,
  other: ArrayLike<number>,
): { largest: number; spread: number } {
  let largest = 0;
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < reference.length; i++) {
    largest = Math.max(largest, Math.abs(reference[i]! - other[i]!));
    sum += reference[i]!;
    squares += reference[i]! ** 2;
  }
  const mean = sum / reference.length;
  return { largest, spread: Math.sqrt(squares / reference.length - mean ** 2) };
}
