/**
 * Writes a model with random weights, as GGUF or as safetensors: for benchmarks that need a model of a certain size and
 * shape and care about its speed or its numbers, not about what it says. The tokenizer comes from an existing file.
 *
 *   node scripts/random-gguf.ts <out.gguf> [--family llama2] [--layers 16] [--embedding 768] [--type Q8_0] [--seed 1]
 *     [--feed-forward 2304] [--heads 12] [--heads-kv 4] [--head-dim 64] [--context 4096] [--safetensors <folder>]
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import {
  demoModel,
  padTokenizer,
  readTokenizer,
  shapeMetadata,
  writeGguf,
} from "../bench/lib/gguf-writer.ts";
import {
  createRandomModel,
  type RandomFamily,
  randomFamilies,
  type RandomModel,
  ropeOf,
} from "../bench/lib/random-model.ts";
import { ropeFactors } from "../bench/lib/rope.ts";
import { writeSafetensors } from "../bench/lib/safetensors-writer.ts";
import { weightFormats, type WeightType } from "../bench/lib/weight-types.ts";

export interface RandomGgufShape {
  /** Llama 2's unless given. */
  readonly family?: RandomFamily;
  readonly layers: number;
  readonly embedding: number;
  readonly feedForward: number;
  readonly heads: number;
  readonly headsKv: number;
  /** The residual stream's width divided by the heads unless given. */
  readonly headDim?: number;
  readonly contextTokens: number;
  /** The tokenizer's unless given; larger ones are filled up with unused tokens. */
  readonly vocabularySize?: number;
  readonly type: WeightType;
  readonly seed: number;
}

/** About 113 million parameters with the vocabulary of the demo model. */
export const shape120M: RandomGgufShape = {
  layers: 16,
  embedding: 768,
  feedForward: 2304,
  heads: 12,
  headsKv: 4,
  contextTokens: 4096,
  type: "Q8_0",
  seed: 1,
};

/** Writes `path` whole or not at all; returns the model that the file holds. */
export async function writeRandomGguf(
  path: string,
  shape: RandomGgufShape = shape120M,
  tokenizerFrom: string = demoModel,
): Promise<RandomModel> {
  const own = await readTokenizer(tokenizerFrom);
  const tokenizer = shape.vocabularySize === undefined ? own : padTokenizer(own, shape.vocabularySize);
  const family = shape.family ?? "llama2";
  const rope = ropeOf(family, shape.contextTokens);
  const model = createRandomModel({
    family,
    layers: shape.layers,
    dim: shape.embedding,
    ffnDim: shape.feedForward,
    heads: shape.heads,
    headsKv: shape.headsKv,
    headDim: shape.headDim ?? shape.embedding / shape.heads,
    vocabularySize: tokenizer.vocabularySize,
    contextTokensMax: shape.contextTokens,
    rope,
    type: shape.type,
    seed: shape.seed,
    mutedTokens: tokenizer.controlTokens,
  });
  const name = `Random ${family} ${shape.embedding}x${shape.layers}`;
  const metadata = [...shapeMetadata(model.shape, rope, shape.type, name), ...tokenizer.metadata];
  await writeGguf(path, model, shape.type, metadata, ropeFactors(rope, model.shape.headDim));
  return model;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      family: { type: "string", default: "llama2" },
      layers: { type: "string" },
      embedding: { type: "string" },
      "feed-forward": { type: "string" },
      heads: { type: "string" },
      "heads-kv": { type: "string" },
      "head-dim": { type: "string" },
      context: { type: "string" },
      type: { type: "string", default: "Q8_0" },
      seed: { type: "string" },
      safetensors: { type: "string" },
    },
  });
  const oneOf = <T extends string>(name: string, known: readonly T[], given: string): T => {
    const found = known.find((one) => one === given);
    if (found === undefined) throw new Error(`--${name} is one of ${known.join(", ")}`);
    return found;
  };
  const embedding = Number(values.embedding ?? shape120M.embedding);
  const heads = Number(values.heads ?? embedding / 64);
  const headsKv = values["heads-kv"] ?? (heads % 3 === 0 ? heads / 3 : heads);
  const type = oneOf("type", Object.keys(weightFormats) as WeightType[], values.type);
  const model = await writeRandomGguf(positionals[0] ?? "random.gguf", {
    family: oneOf("family", randomFamilies, values.family),
    layers: Number(values.layers ?? shape120M.layers),
    embedding,
    feedForward: Number(values["feed-forward"] ?? embedding * 3),
    heads,
    headsKv: Number(headsKv),
    ...(values["head-dim"] === undefined ? {} : { headDim: Number(values["head-dim"]) }),
    contextTokens: Number(values.context ?? shape120M.contextTokens),
    type,
    seed: Number(values.seed ?? shape120M.seed),
  });
  console.log(`${model.parameters} parameters`);
  if (values.safetensors !== undefined) {
    if (type === "Q8_0" || type === "Q4_0") throw new Error(`safetensors hold F32, F16 or BF16, not ${type}`);
    await writeSafetensors(values.safetensors, model, type, model.spec.rope);
  }
}
