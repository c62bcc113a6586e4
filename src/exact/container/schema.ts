/** What the header of a container may hold. */
import { z } from "zod";
import { endIdsMax, mergesMax, tokensMax } from "../tokenizer/limits.ts";
import { preTokenizers } from "../tokenizer/pre-tokenizers.ts";
import type { CborBounds } from "./bounded-cbor.ts";

/** Pairs of a head that turn together; the largest head that is supported has 128. */
const turnsMax = 1_024;

const whole = z.number().int().nonnegative();
const hash = z.instanceof(Uint8Array).refine((bytes) => bytes.length === 32, "is no SHA-256");
const bytes = z.instanceof(Uint8Array);

const shapeSchema = z.strictObject({
  layers: whole,
  dim: whole,
  heads: whole,
  headsKv: whole,
  headDim: whole,
  ffnDim: whole,
  vocabularySize: whole,
  contextTokensMax: whole,
  normEpsilon: whole,
  headNormEpsilon: whole,
  turns: z.array(whole).max(turnsMax),
  hasTiedEmbeddings: z.boolean(),
  hasQkvBias: z.boolean(),
  hasQkNorm: z.boolean(),
});

export const headerSchema = z.strictObject({
  name: z.string().max(200),
  manifest: z.strictObject({
    version: z.literal(0),
    opsVersion: whole,
    opsHash: hash,
    quantization: z.enum(["int8-row", "int4-group32"]),
    shape: shapeSchema,
    tokenizer: hash,
    template: hash,
    weights: hash,
  }),
  tokenizer: bytes,
  chatTemplate: z.string().nullable(),
  tensorRoots: bytes,
});

export const headerBounds: CborBounds = { mapsMax: 3, listItemsMax: { turns: turnsMax } };

export type HeaderFields = z.infer<typeof headerSchema>;

const tokenId = z.number().int().nonnegative();

export const tokenizerSchema = z.strictObject({
  model: z.enum(["gpt2", "llama"]),
  pre: z.enum(preTokenizers).nullable(),
  tokens: z.array(z.string()),
  types: bytes,
  scores: bytes.nullable(),
  merges: z.array(z.string()),
  ignoreMerges: z.boolean(),
  bosId: tokenId.nullable(),
  eosId: tokenId.nullable(),
  unkId: tokenId.nullable(),
  padId: tokenId.nullable(),
  endIds: z.array(tokenId),
  fillInMiddleIds: z.partialRecord(
    z.enum(["prefix", "suffix", "middle", "pad", "repository", "separator"]),
    tokenId,
  ),
  addBos: z.boolean(),
  addSpacePrefix: z.boolean(),
});

export const tokenizerBounds: CborBounds = {
  mapsMax: 2,
  listItemsMax: { tokens: tokensMax, merges: mergesMax, endIds: endIdsMax },
};
