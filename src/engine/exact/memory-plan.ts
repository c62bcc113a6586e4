/** How many contexts of which length a model gets, from its size and the machine's memory. */
import { totalmem } from "node:os";
import { layerLeafLength } from "../../exact/commitment/leaf.ts";
import type { ExactShape, Quantization } from "../../exact/model/model.ts";
import { tensorsOf } from "../../exact/model/sink.ts";
import { tensorExtent } from "../../exact/model/weight-bytes.ts";
import { logitRowsMax } from "../../exact/wasm/workspace.ts";
import { SkeinError } from "../../util/errors.ts";

export interface MemoryPlan {
  readonly parallelMax: number;
  readonly contextTokensMax: number;
}

export interface MemoryWishes {
  /** Requests at the same time; null: as many as fit, up to `parallelDefault`. */
  readonly parallel: number | null;
  /** Prompt and answer of one request together; null: the model's own, as far as memory allows. */
  readonly contextTokens: number | null;
  /** What to do when it does not fit. */
  readonly hint?: string;
}

const hintDefault = "Use a smaller --context or --parallel, a smaller model, or convert it with --bits 4.";

/** From here on more rows make a step longer, not the single row quicker. */
const rowsUseful = 64;
/** While everybody else decodes, a new prompt must get on. */
const rowsForPrompts = 8;

/** Rows of a step. */
export function rowsMaxFor(parallel: number): number {
  return Math.max(rowsUseful, parallel + rowsForPrompts);
}

const parallelDefault = 4;
/** WebAssembly's 32-bit addresses. */
const addressableBytes: number = 2 ** 32;
/** The rest is for the system and other programs. */
const machineShare = 0.75;
/** What contexts take when nobody asks for a number. */
const cacheBytesDefault: number = 2 ** 30;
/** Fewer requests at a time rather than shorter contexts than this. */
const contextTokensWanted = 2_048;
/** Less is of no use to anybody. */
const contextTokensMin = 16;
/** Tables, alignment, and what the estimate of the workspace misses. */
const reserveBytes: number = 16 * 2 ** 20;

/** What this process may use: a container's limit counts. */
export function machineBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** @throws SkeinError `engine_unavailable` when the model or the wish does not fit */
export function planMemory(
  shape: ExactShape,
  quantization: Quantization,
  wishes: MemoryWishes,
  totalBytes: number,
): MemoryPlan {
  const weights = weightBytes(shape, quantization);
  const own = shape.contextTokensMax;
  const available = Math.min(addressableBytes, machineShare * totalBytes);
  const used = (parallel: number): number => weights + workspaceBytes(shape, parallel);
  const contextFor = (parallel: number, cacheBytes: number): number => {
    const room = Math.min(cacheBytes, available - used(parallel));
    return Math.min(own, Math.floor(room / parallel / cacheBytesPerToken(shape)));
  };
  const parallels =
    wishes.parallel === null
      ? Array.from({ length: parallelDefault }, (_, i) => parallelDefault - i)
      : [wishes.parallel];
  if (wishes.contextTokens !== null) {
    const context = Math.min(own, wishes.contextTokens);
    const parallel = parallels.find((count) => contextFor(count, available) >= context);
    if (parallel === undefined)
      throw tooLarge(shape, weights, available, parallels.at(-1)!, context, wishes.hint);
    return { parallelMax: parallel, contextTokensMax: context };
  }
  const wanted = Math.min(own, contextTokensWanted);
  const parallel =
    parallels.find((count) => contextFor(count, cacheBytesDefault) >= wanted) ?? parallels.at(-1)!;
  const context = contextFor(parallel, cacheBytesDefault);
  const least = Math.min(own, contextTokensMin);
  if (context < least) throw tooLarge(shape, weights, available, parallel, least, wishes.hint);
  return { parallelMax: parallel, contextTokensMax: context };
}

export function weightBytes(shape: ExactShape, quantization: Quantization): number {
  return tensorsOf(shape).reduce((sum, { kind }) => sum + tensorExtent(shape, quantization, kind).bytes, 0);
}

/** Keys and values of one position in all layers. */
export function cacheBytesPerToken({ layers, headsKv, headDim }: ExactShape): number {
  return 2 * layers * headsKv * (2 * headDim + 1);
}

function workspaceBytes(shape: ExactShape, parallel: number): number {
  const { dim, ffnDim, heads, headsKv, headDim, vocabularySize } = shape;
  const width = Math.max(dim, ffnDim, heads * headDim);
  const perRow =
    layerLeafLength(shape, true) + 2 * width + 4 * (dim + 2 * ffnDim + (heads + 2 * headsKv + 1) * headDim);
  const rows = rowsMaxFor(parallel);
  const logits = 4 * vocabularySize * Math.min(rows, logitRowsMax);
  return rows * perRow + logits + 8 * (width + shape.contextTokensMax) + reserveBytes;
}

function tooLarge(
  shape: ExactShape,
  weights: number,
  bytes: number,
  parallel: number,
  context: number,
  hint: string = hintDefault,
): SkeinError {
  const mega = (value: number): string => `${Math.ceil(value / 2 ** 20)} MiB`;
  const contexts = parallel === 1 ? "a context" : `${parallel} contexts`;
  const cache = parallel * context * cacheBytesPerToken(shape);
  return new SkeinError(
    "engine_unavailable",
    `The model's weights take ${mega(weights)} and ${contexts} of ${context} tokens ${mega(cache)}; ` +
      `the exact engine can use ${mega(bytes)} here.`,
    { hint },
  );
}
