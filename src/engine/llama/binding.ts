/**
 * The slice of node-llama-cpp 3.22.1 that the engine uses, its private inner context included: the
 * public continuous batching loses about half of llama.cpp's throughput, a loop over the inner context
 * none. The version is pinned, and `checkBinding` fails clearly when something is missing.
 */
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { SkeinError } from "../../util/errors.ts";

export interface SamplerConfig {
  temperature: number;
  topK?: number;
  topP?: number;
  minP?: number;
  seed?: number;
  repeatPenaltyTokens?: Uint32Array;
  repeatPenalty?: number;
  repeatPenaltyMaxTokens?: number;
  repeatPenaltyPresencePenalty?: number;
  repeatPenaltyFrequencyPenalty?: number;
  /** Token ids, and what is added to the logits of each; of the same length. */
  tokenBiasKeys?: Uint32Array;
  tokenBiasValues?: Float32Array;
}

export interface NativeSampler {
  applyConfig(config: SamplerConfig): void;
  dispose(): void;
}

export interface NativeContext {
  initBatch(tokens: number): void;
  /** Returns the batch positions of the requested logits. */
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logits: Uint32Array): Uint32Array;
  decodeBatch(): Promise<void>;
  /** Resolves with a token id, or -1 when nothing could be sampled. */
  sampleToken(batchIndex: number, sampler: NativeSampler): Promise<number>;
  disposeSequence(sequence: number): void;
  /** Removes cells of positions [start, end); false when the kind of cache cannot. */
  removeTokenCellsFromSequence(sequence: number, start: number, end: number): boolean;
  getSequenceKvCacheMinPosition(sequence: number): number;
  copySequenceStateFromOtherSequence(target: number, source: number): Promise<number>;
}

/** The form of `sampleToken` that also returns what was drawn from. */
export interface RevealingContext extends NativeContext {
  sampleToken(batchIndex: number, sampler: NativeSampler): Promise<number>;
  /** Logits after penalties and temperature of the tokens that may be drawn: token, logit, token, logit, …, best first. */
  sampleToken(
    batchIndex: number,
    sampler: NativeSampler,
    probabilities: false,
    confidence: false,
    logits: true,
  ): Promise<readonly [token: number, unknown, unknown, logits: readonly number[]]>;
  /**
   * Logits that the sampler leaves: of the `mostLikely` first tokens, then of `ids`, each behind its token; and the sum of
   * exp(logit − largest logit) over all tokens.
   */
  sampleToken(
    batchIndex: number,
    sampler: NativeSampler,
    probabilities: false,
    confidence: false,
    logits: readonly [
      ids: readonly number[],
      highest: false,
      lowest: false,
      selected: false,
      mostLikely: number,
    ],
    wantsSum: true,
  ): Promise<readonly [token: number, unknown, unknown, logits: readonly number[], sum: number]>;
}

export interface NativeModel {
  tokenize(text: string, special: boolean): Uint32Array;
  detokenize(tokens: Uint32Array, special: boolean): string;
  /** Spelling in the vocabulary: byte-level BPE and SentencePiece escapes included. */
  getTokenString(token: number): string | undefined;
  /** Bits of llama.cpp's `llama_token_attr`. */
  getTokenAttributes(token: number): number;
  /** A number of llama.cpp's `llama_vocab_type`. */
  getVocabularyType(): number;
  isEogToken(token: number): boolean;
  shouldPrependBosToken(): boolean;
  tokenBos(): number;
}

export interface EmbeddingContext {
  /** With the tokens that it adds at both ends where the model wants them. */
  calculateInputLength(tokens: readonly number[]): number;
  /** As the model's pooling has it, not normalised. */
  getEmbeddingFor(tokens: readonly number[]): Promise<{ readonly vector: readonly number[] }>;
}

export interface LlamaModel {
  createEmbeddingContext(options: object): Promise<EmbeddingContext>;
  /** Those that the file names, or that llama.cpp knows by their text; null: it has none. */
  readonly tokens: {
    readonly infill: Readonly<Record<"prefix" | "suffix" | "middle", number | null>>;
  };
  /** The file's metadata, keys with dots as nested objects. */
  readonly fileInfo: { readonly metadata: Readonly<Record<string, unknown>> };
  tokenize(text: string, special: boolean, options?: "trimLeadingSpace"): number[];
  createContext(options: object): Promise<{ _ctx: RevealingContext; contextSize: number }>;
  readonly _model: NativeModel;
}

export interface Llama {
  readonly gpu: string | false;
  loadModel(options: object): Promise<LlamaModel>;
  readonly _bindings: { AddonSampler: new (model: NativeModel) => NativeSampler };
}

interface NodeLlamaCpp {
  getLlama(options: object): Promise<Llama>;
}

/** Imports node-llama-cpp from the folder it is installed in. */
export async function importNodeLlamaCpp(moduleFolder: string): Promise<NodeLlamaCpp> {
  try {
    return (await import(pathToFileURL(join(moduleFolder, "dist", "index.js")).href)) as NodeLlamaCpp;
  } catch (error) {
    throw new SkeinError("engine_not_installed", `node-llama-cpp cannot be loaded from ${moduleFolder}.`, {
      hint: "Run `skein engine add llama`.",
      cause: error,
    });
  }
}

/** Fails early and clearly when the installed version lacks what the loop needs. */
export function checkBinding(context: NativeContext, model: LlamaModel, llama: Llama): void {
  const missing = [
    ...missingFunctions(context, [
      "initBatch",
      "addToBatch",
      "decodeBatch",
      "sampleToken",
      "disposeSequence",
      "removeTokenCellsFromSequence",
      "getSequenceKvCacheMinPosition",
      "copySequenceStateFromOtherSequence",
    ]),
    ...missingFunctions(model._model, [
      "tokenize",
      "detokenize",
      "getTokenString",
      "getTokenAttributes",
      "getVocabularyType",
      "isEogToken",
      "shouldPrependBosToken",
      "tokenBos",
    ]),
    ...missingFunctions(llama._bindings, ["AddonSampler"]),
  ];
  if (missing.length > 0) {
    throw new SkeinError("engine_unavailable", `The installed node-llama-cpp lacks ${missing.join(", ")}.`, {
      hint: "Reinstall the pinned version: `skein engine add llama`.",
    });
  }
}

function missingFunctions(object: object | undefined, names: readonly string[]): string[] {
  return names.filter(
    (name) => typeof (object as Record<string, unknown> | undefined)?.[name] !== "function",
  );
}
