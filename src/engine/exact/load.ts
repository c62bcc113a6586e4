/** Loads a converted model: checks every hash, places the weights, and builds what prompts need. */
import { equalBytes } from "../../exact/commitment/commitment.ts";
import {
  type ContainerHeader,
  type ContainerInfo,
  readHeader,
  tokenizerOf,
} from "../../exact/container/container.ts";
import type { PagedExecutor } from "../../exact/executor.ts";
import { createTokenizer, type ExactTokenizer } from "../../exact/tokenizer/tokenizer.ts";
import type { WasmExecutor, WasmExecutorOptions } from "../../exact/wasm/executor.ts";
import { type LoadHelpers, loadWasmExecutor } from "../../exact/wasm/load.ts";
import { SkeinError } from "../../util/errors.ts";
import { invalidModelFile } from "../../formats/errors.ts";
import type { Emitted } from "../../protocol/generate.ts";
import { offeredDialect } from "../chat-dialect.ts";
import type { ChatTemplate } from "../chat-template.ts";
import { type FileSource, openFileSource } from "../file-source.ts";
import type { PieceTable } from "../piece-decoder.ts";
import { checkTextLength, type PromptModel } from "../prompt.ts";
import { sharedWork, threadsReady } from "./compute-threads.ts";
import { machineBytes, type MemoryPlan, planMemory, rowsMaxFor, weightBytes } from "./memory-plan.ts";
import { idleProcessors, withLoadThreads } from "./load-threads.ts";
import type { ExactLoadOptions, LoadedFacts } from "./messages.ts";
import { sha256 } from "../sha256.ts";

export interface LoadedModel {
  readonly facts: LoadedFacts;
  readonly executor: PagedExecutor;
  /** The model that guesses ahead. */
  readonly draft: PagedExecutor | null;
  /** Whether anything guesses ahead; default: yes. */
  readonly guesses?: boolean;
  readonly prompt: PromptModel;
  readonly vocabulary: { readonly pieces: PieceTable; readonly isEnd: (tokenId: number) => boolean };
  /** An engine without token ids may have produced the beginning: then its text is continued. */
  withTokenIds(emitted: Emitted): Emitted;
}

const never = new AbortController().signal;

/**
 * @param onFailure called when a compute thread dies, after which the model does not run any more
 * @throws SkeinError `invalid_model_file`, `unsupported_model`, `engine_unavailable`
 */
export async function loadModel(
  options: ExactLoadOptions,
  onFailure: (reason: string) => void,
): Promise<LoadedModel> {
  const source = await openFileSource(options.modelPath);
  try {
    return await withLoadThreads(source, idleProcessors(), (helpers) =>
      loadFrom(source, options, helpers, onFailure),
    );
  } finally {
    await source.close();
  }
}

async function loadFrom(
  source: FileSource,
  options: ExactLoadOptions,
  helpers: LoadHelpers | undefined,
  onFailure: (reason: string) => void,
): Promise<LoadedModel> {
  const header = await readHeader(source, sha256, never);
  const { manifest, modelId, name } = header;
  if (options.modelId !== null && modelId !== options.modelId) {
    throw invalidModelFile(options.modelPath, "is another model than before", "Start the provider again.");
  }
  const plan = planMemory(manifest.shape, manifest.quantization, options, machineBytes());
  const ending = new AbortController();
  const opening = openExecutor(source, header, plan, {
    threads: sharedWork(options.threads, onFailure),
    helpers,
    signal: ending.signal,
  });
  try {
    // What is between text and tokens is made while others load.
    const makeText = async () =>
      textOf({ ...header, tokenizer: tokenizerOf(source.name, header) }, plan.contextTokensMax);
    const [executor, text] = await Promise.all([opening, makeText()]);
    const draft = await loadDraft(options, header, plan, sharedWork(options.threads, onFailure));
    const hasInfill = text.prompt.infill != null;
    const dialect = offeredDialect(text.prompt.chatTemplate);
    return { ...text, facts: { modelId, name, dialect, hasInfill, ...plan }, executor, draft };
  } finally {
    ending.abort();
  }
}

type Threads = Pick<WasmExecutorOptions, "threads">;

async function openExecutor(
  source: FileSource,
  header: ContainerHeader,
  { parallelMax, contextTokensMax, cacheTokensMax }: MemoryPlan,
  given: {
    readonly threads: Threads;
    readonly helpers: LoadHelpers | undefined;
    readonly signal: AbortSignal;
  },
): Promise<WasmExecutor> {
  const rowsMax = rowsMaxFor(parallelMax);
  const { threads, helpers, signal } = given;
  const executor = await loadWasmExecutor(source, header, sha256, {
    executor: { contextTokensMax, cacheTokensMax, rowsMax, ...threads },
    signal,
    ...(helpers === undefined ? {} : { helpers }),
  });
  await threadsReady(executor);
  return executor;
}

/** The model that guesses ahead, with as many contexts. @throws SkeinError as `loadModel`; `unsupported_model` for another tokenizer */
async function loadDraft(
  { draftPath = null }: ExactLoadOptions,
  { manifest }: ContainerHeader,
  { parallelMax, contextTokensMax }: MemoryPlan,
  threads: Threads,
): Promise<PagedExecutor | null> {
  if (draftPath === null) return null;
  const source = await openFileSource(draftPath);
  try {
    const header = await readHeader(source, sha256, never);
    const { shape, quantization, tokenizer } = header.manifest;
    if (!equalBytes(tokenizer, manifest.tokenizer)) {
      throw new SkeinError("unsupported_model", `The draft model ${draftPath} has another tokenizer.`, {
        hint: "Choose a smaller model of the same family.",
      });
    }
    const room = machineBytes() - weightBytes(manifest.shape, manifest.quantization);
    const contextTokens = Math.min(shape.contextTokensMax, contextTokensMax);
    const plan = planMemory(shape, quantization, { parallel: parallelMax, contextTokens }, room);
    return await withLoadThreads(source, idleProcessors(), (helpers) =>
      openExecutor(source, header, plan, { threads, helpers, signal: never }),
    );
  } finally {
    await source.close();
  }
}

/** Everything between text and token ids. */
export function textOf(
  info: Pick<ContainerInfo, "tokenizer" | "chatTemplate" | "manifest">,
  contextTokens: number,
): Pick<LoadedModel, "prompt" | "vocabulary" | "withTokenIds"> {
  const tokenizer = createTokenizer(info.tokenizer);
  const noBytes = new Uint8Array(0);
  // Reading a long text takes a while, in which nobody else's answer goes on.
  const checkLength = (characters: number): void =>
    checkTextLength(characters, tokenizer.tokenBytesMax, contextTokens);
  return {
    prompt: {
      tokenizer: {
        text(text) {
          checkLength(text.length);
          return tokenizer.encode(text, { parseSpecial: false, addSpecial: true });
        },
        chat(segments) {
          checkLength(segments.reduce((sum, { text }) => sum + text.length, 0));
          return tokenizer.encodePieces(segments);
        },
      },
      chatTemplate: chatTemplateOf(info, tokenizer),
      vocabularySize: info.manifest.shape.vocabularySize,
      infill: tokenizer.infillTexts(),
    },
    vocabulary: {
      // Some models have more rows in their output matrix than tokens.
      pieces: (token) => (token < tokenizer.vocabularySize ? tokenizer.tokenBytes(token) : noBytes),
      isEnd: (token) => tokenizer.isEndOfGeneration(token),
    },
    withTokenIds({ tokenIds, text }) {
      if (tokenIds.length > 0 || text === "") return { tokenIds, text };
      return { tokenIds: tokenizer.encodeContinuation(text), text };
    },
  };
}

function chatTemplateOf(
  { chatTemplate: source, tokenizer: data }: Pick<ContainerInfo, "tokenizer" | "chatTemplate">,
  tokenizer: ExactTokenizer,
): ChatTemplate | null {
  if (source === null) return null;
  const textOfToken = (id: number | null): string => (id === null ? "" : (data.tokens[id] ?? ""));
  return {
    source,
    bosToken: textOfToken(data.bosId),
    eosToken: textOfToken(data.eosId),
    specialTokens: tokenizer.specialTexts(),
  };
}
