/** Models of some thousand weights with an alphabet for a tokenizer: what takes minutes with a real model takes milliseconds. */
import type { LoadedModel } from "../../engine/exact/load.ts";
import { diceOfSeed, randomModel, randomShape } from "../../exact/random-model.suite.ts";
import { createReferenceExecutor } from "../../exact/reference/executor.ts";
import type { PagedExecutor } from "../../exact/executor.ts";
import type { ExactModel } from "../../exact/model/model.ts";
import type { CheatModels } from "./cheats.suite.ts";

const alphabet = "abcdefghijklmnopqrstuvwxyz .,!?";
const vocabularySize = 32;
const endToken = 31;
const contextTokensMax = 96;

function loadedOf(model: ExactModel, name: string): LoadedModel {
  const encode = (text: string): number[] =>
    Array.from(text, (letter) => Math.max(0, alphabet.indexOf(letter)));
  return {
    facts: {
      modelId: `exact-sha256:${name.repeat(64)}`,
      name,
      contextTokensMax,
      parallelMax: 1,
      hasInfill: false,
      cacheTokensMax: contextTokensMax,
      dialect: { features: [] },
    },
    // Nobody asks it for pages here.
    executor: createReferenceExecutor(model) as unknown as PagedExecutor,
    draft: null,
    prompt: {
      tokenizer: { text: encode, chat: (segments) => segments.flatMap(({ text }) => encode(text)) },
      chatTemplate: null,
      vocabularySize,
    },
    vocabulary: {
      pieces: (token) => new TextEncoder().encode(alphabet[token] ?? ""),
      isEnd: (token) => token === endToken,
    },
    withTokenIds: (emitted) => emitted,
  };
}

export async function microModels(): Promise<CheatModels> {
  const shapeOf = (layers: number) =>
    randomShape(diceOfSeed(11), {
      layers,
      dim: 16,
      headDim: 16,
      headsKv: 1,
      heads: 1,
      ffnDim: 32,
      vocabularySize,
      contextTokensMax,
      hasTiedEmbeddings: true,
    });
  const sold = await randomModel(diceOfSeed(3), shapeOf(2), "calm");
  const draft = await randomModel(diceOfSeed(4), shapeOf(1), "calm");
  const skipped: ExactModel = {
    ...sold,
    shape: { ...sold.shape, layers: 1 },
    range: { start: 0, end: 1 },
    layers: sold.layers.slice(0, 1),
  };
  return {
    sold: loadedOf(sold, "a"),
    requantized: loadedOf(rounded(sold), "b"),
    skipped: loadedOf(skipped, "c"),
    draft: loadedOf(draft, "d"),
  };
}

/** Every weight of the layers without its lower four bits. */
function rounded(model: ExactModel): ExactModel {
  const layers = model.layers.map((layer) =>
    Object.fromEntries(
      Object.entries(layer).map(([kind, tensor]) => {
        const weights: unknown = (tensor as { weights?: unknown } | null)?.weights;
        if (!(weights instanceof Int8Array)) return [kind, tensor];
        return [kind, { ...tensor, weights: weights.map((weight) => (weight >> 4) << 4) }];
      }),
    ),
  );
  return { ...model, layers: layers as unknown as ExactModel["layers"] };
}
