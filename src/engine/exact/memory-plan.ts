/** How many requests of which length a model takes, from its size and the machine's memory. */
import { totalmem } from "node:os";
import { layerLeafLength } from "../../exact/commitment/leaf.ts";
import type { ExactShape, Quantization } from "../../exact/model/model.ts";
import { tensorsOf } from "../../exact/model/sink.ts";
import { tensorExtent } from "../../exact/model/weight-bytes.ts";
import { pagePositions } from "../../exact/wasm/pages.ts";
import { logitRowsMax } from "../../exact/wasm/workspace.ts";
import { SkeinError } from "../../util/errors.ts";

export interface MemoryPlan {
  /** Requests at the same time. */
  readonly parallelMax: number;
  /** Positions of one request, prompt and answer together. */
  readonly contextTokensMax: number;
  /** Positions of all requests together: at least one whole context, and rarely all of them. */
  readonly cacheTokensMax: number;
}

export interface MemoryWishes {
  /** Requests at the same time; null: as many as find room, up to `parallelDefault`. */
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

const parallelDefault = 16;
/** WebAssembly's 32-bit addresses. */
const addressableBytes: number = 2 ** 32;
/** The rest is for the system and other programs. */
const machineShare = 0.75;
/** What contexts take when nobody asks for a number. */
const cacheBytesDefault: number = 2 ** 30;
/** Fewer requests at a time rather than less than this for each, or than a whole context. */
const shareTokensWanted = 1_024;
/** Below this many requests would only preempt one another. */
const shareTokensMin = 256;
/** Less is of no use to anybody. */
const contextTokensMin = 16;
/** Tables, alignment, and what the estimate of the workspace misses. */
const reserveBytes: number = 16 * 2 ** 20;

/** What this process may use: a container's limit counts. */
export function machineBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/**
 * Requests share one pool of pages: each may have the whole context, but not all of them at once (see schedule.ts).
 * @throws SkeinError `engine_unavailable` when the model or the wish does not fit
 */
export function planMemory(
  shape: ExactShape,
  quantization: Quantization,
  wishes: MemoryWishes,
  totalBytes: number,
): MemoryPlan {
  const weights = weightBytes(shape, quantization);
  const own = Math.min(shape.contextTokensMax, wishes.contextTokens ?? Number.POSITIVE_INFINITY);
  const available = Math.min(addressableBytes, machineShare * totalBytes);
  const roomFor = (parallel: number): number => {
    const room = available - weights - workspaceBytes(shape, parallel);
    return pagePositions * Math.floor(room / cacheBytesPerToken(shape) / pagePositions);
  };
  const wholeFor = (parallel: number): number => parallel * inPages(own);
  // 1. As many requests as find a useful share of the room, unless somebody asked for a number.
  const inDefault = cacheBytesDefault / cacheBytesPerToken(shape);
  const roomy = (parallel: number): boolean =>
    Math.min(roomFor(parallel), inDefault) >= parallel * Math.min(own, shareTokensWanted);
  const defaults = Array.from({ length: parallelDefault }, (_, i) => parallelDefault - i);
  const parallel = wishes.parallel ?? defaults.find(roomy) ?? 1;
  // 2. A gigabyte for all of them; more where somebody asked for more.
  const room = roomFor(parallel);
  const isAsked = wishes.parallel !== null && wishes.contextTokens !== null;
  const wanted = isAsked ? wholeFor(parallel) : Math.max(inDefault, wishes.contextTokens === null ? 0 : own);
  const cache = Math.min(room, wholeFor(parallel), inPages(wanted));
  // 3. One request may take all of it.
  const context = Math.min(own, cache);
  const least = Math.min(own, wishes.contextTokens ?? contextTokensMin);
  if (context < least || cache < parallel * Math.min(own, shareTokensMin)) {
    throw tooLarge(shape, weights, available, parallel, least, wishes.hint);
  }
  return { parallelMax: parallel, contextTokensMax: context, cacheTokensMax: cache };
}

/** Positions of so many, in whole pages. */
function inPages(positions: number): number {
  return pagePositions * Math.ceil(positions / pagePositions);
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
  const group = heads / headsKv;
  return rows * perRow + logits + 8 * (width + group * shape.contextTokensMax) + reserveBytes;
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
  const tokens = Math.max(context, parallel * Math.min(context, shareTokensMin));
  const cache = tokens * cacheBytesPerToken(shape);
  return new SkeinError(
    "engine_unavailable",
    `The model's weights take ${mega(weights)} and ${parallel} requests at least ${mega(cache)}; ` +
      `the exact engine can use ${mega(bytes)} here.`,
    { hint },
  );
}
