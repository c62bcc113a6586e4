/** What the rows and columns of a layer's matrices are multiplied with before they are rounded: nothing that changes the model. */
import { extentOf, type LayerTensor, type ModelSource } from "../../formats/model-source.ts";
import { readBlocks } from "./convert.ts";
import { addColumnSquares, addRowSquares, equalizingShifts, groupSizes } from "./equalize.ts";

/** One factor per row (q, k, v, up), per column (attnOutput, down) or per weight (qNorm, kNorm). */
export interface LayerFactors {
  readonly q: Float64Array;
  readonly k: Float64Array;
  readonly qNorm: Float64Array;
  readonly kNorm: Float64Array;
  readonly v: Float64Array;
  readonly attnOutput: Float64Array;
  readonly up: Float64Array;
  readonly down: Float64Array;
}

export async function layerFactors(
  source: ModelSource,
  layer: number,
  signal: AbortSignal,
): Promise<LayerFactors> {
  const { shape } = source;
  const { heads, headsKv, headDim, ffnDim } = shape;
  const squares = await layerSizes(source, layer, signal);
  const kvHeadOf = (channel: number): number => Math.floor(Math.floor(channel / headDim) / (heads / headsKv));

  // Queries and keys meet pair by pair, in each key head; norms per head are the same for all of them.
  const pairs = headDim / 2;
  const pairOfQuery = (c: number): number => (shape.hasQkNorm ? 0 : kvHeadOf(c) * pairs) + (c % pairs);
  const pairOfKey = (c: number): number =>
    (shape.hasQkNorm ? 0 : Math.floor(c / headDim) * pairs) + (c % pairs);
  const pairCount = shape.hasQkNorm ? pairs : headsKv * pairs;
  const keyShifts = equalizingShifts(
    groupSizes(squares.k, pairCount, pairOfKey),
    groupSizes(squares.q, pairCount, pairOfQuery),
  );
  // Scores are binary logarithms: log2(e), 1 / √headDim and the rotation's magnitude go into the query.
  const scoreFactor = (Math.LOG2E / Math.sqrt(headDim)) * (shape.ropeMagnitude * shape.ropeMagnitude);
  const queryFactors = squares.q.map((_, c) => scoreFactor * 2 ** -keyShifts[pairOfQuery(c)]!);
  const keyFactors = squares.k.map((_, c) => 2 ** keyShifts[pairOfKey(c)]!);

  // Values meet the columns of the output matrix, those of all query heads that read the same head.
  const channelOf = (c: number): number => kvHeadOf(c) * headDim + (c % headDim);
  const valueShifts = equalizingShifts(
    groupSizes(squares.v, headsKv * headDim, (c) => c),
    groupSizes(squares.attnOutput, headsKv * headDim, channelOf),
  );
  const hiddenShifts = equalizingShifts(
    groupSizes(squares.up, ffnDim, (c) => c),
    groupSizes(squares.down, ffnDim, (c) => c),
  );
  const ones = (length: number): Float64Array => new Float64Array(length).fill(1);
  return {
    q: shape.hasQkNorm ? ones(heads * headDim) : queryFactors,
    k: shape.hasQkNorm ? ones(headsKv * headDim) : keyFactors,
    qNorm: queryFactors,
    kNorm: keyFactors,
    v: squares.v.map((_, c) => 2 ** valueShifts[c]!),
    attnOutput: squares.attnOutput.map((_, c) => 2 ** -valueShifts[channelOf(c)]!),
    up: squares.up.map((_, c) => 2 ** hiddenShifts[c]!),
    down: squares.down.map((_, c) => 2 ** -hiddenShifts[c]!),
  };
}

type Sizes = Record<"q" | "k" | "v" | "attnOutput" | "up" | "down", Float64Array>;

/** Squares of what each channel of a layer is likely to hold: of rows for producers, of columns for consumers. */
async function layerSizes(source: ModelSource, layer: number, signal: AbortSignal): Promise<Sizes> {
  const { shape } = source;
  const vector = async (kind: LayerTensor): Promise<Float64Array> => {
    const { columns } = extentOf(shape, kind);
    const values = await source.readRows({ kind, layer }, 0, 1, signal);
    return Float64Array.from(values.subarray(0, columns));
  };
  const produced = async (kind: "q" | "k" | "v" | "up", norm: Float64Array): Promise<Float64Array> => {
    const squares = new Float64Array(extentOf(shape, kind).rows);
    for await (const [first, rows] of readBlocks(source, { kind, layer }, signal)) {
      addRowSquares(rows, norm, squares, first);
    }
    return squares;
  };
  const consumed = async (kind: "attnOutput" | "down"): Promise<Float64Array> => {
    const squares = new Float64Array(extentOf(shape, kind).columns);
    for await (const [, rows] of readBlocks(source, { kind, layer }, signal)) addColumnSquares(rows, squares);
    return squares;
  };
  const addSquares = async (
    squares: Float64Array,
    bias: "qBias" | "kBias" | "vBias",
  ): Promise<Float64Array> => {
    if (!shape.hasQkvBias) return squares;
    const values = await vector(bias);
    return squares.map((square, i) => square + values[i]! * values[i]!);
  };
  const attnNorm = await vector("attnNorm");
  const headNorm = async (kind: "qNorm" | "kNorm"): Promise<Float64Array> =>
    (await vector(kind)).map((weight) => weight * weight);
  return {
    // After a norm per head, its weights are what is left of sizes.
    q: shape.hasQkNorm ? await headNorm("qNorm") : await addSquares(await produced("q", attnNorm), "qBias"),
    k: shape.hasQkNorm ? await headNorm("kNorm") : await addSquares(await produced("k", attnNorm), "kBias"),
    v: await addSquares(await produced("v", attnNorm), "vBias"),
    attnOutput: await consumed("attnOutput"),
    up: await produced("up", await vector("ffnNorm")),
    down: await consumed("down"),
  };
}
