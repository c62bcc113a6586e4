/** What an upstream answers to `/embeddings`, held against what was asked. */
import { z } from "zod";
import {
  dimensionsMax,
  type Embedded,
  type EmbedInput,
  type EmbedRequest,
  vectorBytes,
} from "../protocol/embed.ts";
import { SkeinError } from "../util/errors.ts";
import { unitVector } from "./embedding.ts";
import { estimateTokens } from "./openai-answer.ts";

const answerSchema = z.looseObject({
  data: z.array(
    z.looseObject({
      index: z.number().int().min(0),
      embedding: z.array(z.number()).min(1).max(dimensionsMax),
    }),
  ),
  usage: z.looseObject({ prompt_tokens: z.number().int().min(0) }).nullish(),
});

/** One component as text, with room to spare. */
const componentCharsMax = 32;

/** Characters that an honest answer stays below. */
export function embeddingsCharsMax({ inputs, dimensions }: EmbedRequest): number {
  return 10_000 + inputs.length * (dimensions ?? dimensionsMax) * componentCharsMax;
}

/** Body of the call. */
export function embeddingsBody(model: string, { inputs, dimensions }: EmbedRequest): object {
  return {
    model,
    input: inputs.map((input) => (input.kind === "text" ? input.text : input.tokenIds)),
    // Some servers know no other.
    encoding_format: "float",
    ...(dimensions === null ? {} : { dimensions }),
  };
}

/** @throws SkeinError `upstream_failed` for anything but a vector of one size for each input */
export function embeddedIn(
  answer: unknown,
  { inputs, dimensions }: EmbedRequest,
  durationMs: number,
): Embedded {
  const parsed = answerSchema.safeParse(answer);
  if (!parsed.success) throw wrong("is not one to /embeddings");
  const vectors: Uint8Array[] = [];
  const size = dimensions ?? parsed.data.data[0]?.embedding.length;
  for (const { index, embedding } of parsed.data.data) {
    if (embedding.length !== size) throw wrong(`has vectors of ${embedding.length} dimensions`);
    vectors[index] = vectorBytes(unitVector(embedding, embedding.length));
  }
  const isWhole = vectors.length === inputs.length && !vectors.includes(undefined as never);
  if (!isWhole) throw wrong(`has ${parsed.data.data.length} vectors for ${inputs.length} inputs`);
  const estimated = inputs.reduce((sum, input: EmbedInput) => sum + estimateTokens(input), 0);
  return { vectors, promptTokens: parsed.data.usage?.prompt_tokens ?? estimated, durationMs };
}

function wrong(how: string): SkeinError {
  return new SkeinError("upstream_failed", `The upstream's answer ${how}.`);
}
