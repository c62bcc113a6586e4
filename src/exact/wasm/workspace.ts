/** Where the kernels keep what lives for one step. */
import { layerLeafLength, layerLeafTag } from "../commitment/leaf.ts";
import type { ExactShape } from "../model/model.ts";
import { cosineOf, phaseOf, sineOf } from "../ops/rotation.ts";
import type { KernelMemory } from "./kernels.ts";
import { pagePositions } from "./pages.ts";

/** Of `matmul`: sixteen rows of 1,024 16-bit weights, or four sums of 2,048 groups; and 64-bit sums of sixteen rows for each token. */
export function scratchBytes(tokens: number): number {
  return 16 * 2 * 1_024 + 16 * 8 * tokens;
}

/** Vectors begin at multiples of 16 bytes; the last byte before them is the tag. */
const tagRoom = 16;

/** Rows whose logits are computed together; a vocabulary may be large. */
export const logitRowsMax = 16;

/** Bytes of one position's angles: cosine and sine of each pair, 32 bits each. */
export function angleBytes(headDim: number): number {
  return 4 * headDim;
}

/** Addresses; each vector is followed by those of the other rows. Plain data, so that threads can be told. */
export interface Workspace {
  readonly residuals: number;
  readonly residualStride: number;
  /** Blocks that enter a matrix: 16-bit mantissas, and 32-bit exponents. */
  readonly x: number;
  readonly xExponents: number;
  readonly y: number;
  readonly q: number;
  readonly k: number;
  readonly v: number;
  readonly gate: number;
  readonly up: number;
  readonly logits: number;
  readonly angles: number;
  /** One for each thread. */
  readonly own: readonly OwnWorkspace[];
}

/** What a thread writes alone. */
export interface OwnWorkspace {
  /** One vector of 64-bit numbers. */
  readonly wide: number;
  readonly scratch: number;
  readonly attention: number;
}

export function placeWorkspace(
  memory: KernelMemory,
  shape: ExactShape,
  rowsMax: number,
  contextTokensMax: number,
  threads: number,
): Workspace {
  const { dim, ffnDim, heads, headsKv, headDim } = shape;
  const width = Math.max(dim, ffnDim, heads * headDim);
  const vectors = (bytes: number): number => memory.allocate(bytes * rowsMax);
  const residualStride = Math.ceil((tagRoom + layerLeafLength(shape, true)) / 16) * 16;
  const residuals = vectors(residualStride) + tagRoom;
  const tags = memory.bytes(residuals - 1, (rowsMax - 1) * residualStride + 1);
  for (let at = 0; at < tags.length; at += residualStride) tags[at] = layerLeafTag;
  return {
    residuals,
    residualStride,
    x: vectors(2 * width),
    xExponents: vectors(4),
    y: vectors(4 * dim),
    q: vectors(4 * heads * headDim),
    k: vectors(4 * headsKv * headDim),
    v: vectors(4 * headsKv * headDim),
    gate: vectors(4 * ffnDim),
    up: vectors(4 * ffnDim),
    angles: vectors(angleBytes(headDim)),
    logits: memory.allocate(4 * shape.vocabularySize * Math.min(rowsMax, logitRowsMax)),
    own: Array.from({ length: threads }, () => ({
      wide: memory.allocate(8 * width),
      scratch: memory.allocate(scratchBytes(rowsMax)),
      attention: memory.allocate(attentionBytes(shape, contextTokensMax)),
    })),
  };
}

/** Of `attend`, for all queries of one head of keys. */
function attentionBytes({ heads, headsKv, headDim }: ExactShape, positions: number): number {
  const perHead = 10 * headDim + 8 * (positions + pagePositions) + 4;
  return (heads / headsKv) * perHead + positions + 3 * pagePositions;
}

/** The residual vector of a row; the tag of leaves stands before it, and its keys and values behind it. */
export function residualAt({ residuals, residualStride }: Workspace, row: number): number {
  return residuals + row * residualStride;
}

export function placeAngles(
  memory: KernelMemory,
  address: number,
  turns: readonly number[],
  positions: readonly number[],
): void {
  const angles = memory.integers(address, 2 * turns.length * positions.length);
  let at = 0;
  for (const position of positions) {
    for (const turn of turns) {
      const phase = phaseOf(turn, position);
      angles[at++] = cosineOf(phase);
      angles[at++] = sineOf(phase);
    }
  }
}
