/** What a provider was asked for, as its receipt refers to it: one hash that gateway, provider and client compute alike. */
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { z } from "zod";
import { decodeCbor, encodeCbor } from "../protocol/cbor.ts";
import type { GenerateRequest, Prompt, Terms } from "../protocol/generate.ts";
import type { TrustTier } from "../protocol/offer.ts";
import type { PriceSheet } from "../protocol/price.ts";
import { digestOf, domainWord, doubleWord, hashWord, numberWord, textHash, tokensHash } from "./words.ts";

/** A request with the terms of its receipt. */
export type RequestWithTerms = GenerateRequest & { readonly terms: Terms };

/** One attempt's request, its long parts as hashes. */
export interface Asked {
  /** Chosen by the gateway before it looks for a provider. */
  readonly requestId: string;
  readonly modelId: string;
  readonly tier: TrustTier;
  readonly promptHash: Uint8Array;
  /** Output tokens at most, those of earlier attempts included; null: the context's end. */
  readonly outputTokensMax: number | null;
  readonly sampling: AskedSampling;
  /** Canonical CBOR of everything else that was asked: stop sequences, bias. */
  readonly options: Uint8Array;
  readonly timeoutMs: number;
  readonly price: PriceSheet;
  /** Tokens of prompt and answer together that the provider offered. */
  readonly contextTokensMax: number;
  readonly chargesPrompt: boolean;
  /** What earlier attempts delivered. */
  readonly emitted: EmittedHashes;
  /** Digest of the earlier attempt's receipt or last checkpoint; null: nothing was signed. */
  readonly previous: Uint8Array | null;
}

export interface AskedSampling {
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly seed: number;
}

export interface EmittedHashes {
  readonly tokens: number;
  readonly tokensHash: Uint8Array;
  readonly textHash: Uint8Array;
}

export const tiers: readonly TrustTier[] = ["unverified", "float", "exact"];

const domain = domainWord("skein-request-v1");

export function askedOf(sha256: Sha256, request: RequestWithTerms): Asked {
  const {
    requestId,
    modelId,
    prompt,
    emitted,
    sampling,
    outputTokensMax,
    timeoutMs,
    terms,
    constraint,
    logprobs,
    // Who shares caches changes no answer; a receipt that is shown around must not tell whose it is.
    cacheSalt: _,
    ...others
  } = request;
  const { temperature, topP, topK, minP, presencePenalty, frequencyPenalty, seed, ...samplingOthers } =
    sampling;
  return {
    requestId,
    modelId,
    tier: terms.tier,
    promptHash: promptHash(sha256, prompt),
    outputTokensMax,
    sampling: { temperature, topP, topK, minP, presencePenalty, frequencyPenalty, seed },
    // What asks for nothing is not there.
    options: encodeCbor({
      ...others,
      ...samplingOthers,
      ...(constraint === null ? {} : { constraint }),
      ...(logprobs === null ? {} : { logprobs }),
    }),
    timeoutMs,
    price: terms.price,
    contextTokensMax: terms.contextTokensMax,
    chargesPrompt: terms.chargesPrompt,
    emitted: emittedHashes(sha256, emitted.tokenIds, emitted.text),
    previous: terms.previous,
  };
}

/** SHA-256 of the prompt's canonical CBOR. */
export function promptHash(sha256: Sha256, prompt: Prompt): Uint8Array {
  return sha256(encodeCbor(prompt));
}

export function emittedHashes(sha256: Sha256, tokenIds: readonly number[], text: string): EmittedHashes {
  return {
    tokens: tokenIds.length,
    tokensHash: tokensHash(sha256, tokenIds),
    textHash: textHash(sha256, text),
  };
}

/** The layout is in docs/PROTOCOL.md, "Receipts". @throws RangeError for numbers that are not counts */
export function requestHash(sha256: Sha256, asked: Asked): Uint8Array {
  return digestOf(sha256, requestWords(sha256, asked));
}

export function requestWords(sha256: Sha256, asked: Asked): Uint8Array[] {
  const { sampling, price, emitted } = asked;
  return [
    domain,
    textHash(sha256, asked.requestId),
    textHash(sha256, asked.modelId),
    numberWord(tiers.indexOf(asked.tier)),
    hashWord(asked.promptHash),
    numberWord(asked.outputTokensMax ?? 0),
    doubleWord(sampling.temperature),
    doubleWord(sampling.topP),
    numberWord(sampling.topK),
    doubleWord(sampling.minP),
    doubleWord(sampling.presencePenalty),
    doubleWord(sampling.frequencyPenalty),
    numberWord(sampling.seed),
    sha256(asked.options),
    numberWord(asked.timeoutMs),
    numberWord(price.inputPerMillionTokens),
    numberWord(price.outputPerMillionTokens),
    numberWord(price.perSecond),
    numberWord(asked.contextTokensMax),
    numberWord(asked.chargesPrompt ? 1 : 0),
    numberWord(emitted.tokens),
    hashWord(emitted.tokensHash),
    hashWord(emitted.textHash),
    hashWord(asked.previous),
  ];
}

const optionsSchema = z.looseObject({
  stop: z.array(z.string()),
  logitBias: z.array(z.tuple([z.number().int(), z.number()])).readonly(),
  constraint: z.looseObject({ grammar: z.string() }).exactOptional(),
});
export type AskedOptions = z.infer<typeof optionsSchema>;

/** What `options` hold. @throws SkeinError `protocol_violation` */
export function optionsOf({ options }: Asked): AskedOptions {
  return decodeCbor(optionsSchema, options, "request's options");
}
