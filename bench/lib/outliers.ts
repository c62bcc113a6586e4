/**
 * Models with the outliers that large trained models have and small ones lack. Scaling a channel up where it is made and
 * down where it is used leaves the function as it is, but not what an engine with few bits makes of it.
 */
import { extentOf, type ModelSource, type TensorRef } from "../../src/formats/model-source.ts";
import { seededRandom } from "../../src/util/random.ts";

/** H: channels of the feed-forward part; K: a rotary pair of keys; V: a channel of values. */
export type ScaledOutlier = "H" | "K" | "V";

/** By how much channels are scaled. */
export interface OutlierScales {
  readonly hidden: number;
  readonly key: number;
  readonly value: number;
}

/** Powers of two round nothing: the model stays the same to the last bit. */
export const evenScales: OutlierScales = { hidden: 256, key: 32, value: 64 };
/** Of the same size, but such as no equalisation by powers of two undoes exactly. */
export const unevenScales: OutlierScales = { hidden: 200, key: 23, value: 90 };

const hiddenChannelsPerLayer = 2;

/** Changes some rows, or columns of all rows, in place. `start` is the first row's number. */
export type Edit = (values: Float32Array, start: number, columns: number) => void;

export interface TensorEdit {
  readonly tensor: TensorRef;
  readonly edit: Edit;
}

/** The same model with some tensors changed. */
export function withEdits(source: ModelSource, edits: readonly TensorEdit[]): ModelSource {
  const byTensor = Map.groupBy(edits, ({ tensor }) => keyOf(tensor));
  return {
    ...source,
    readRows: async (tensor, start, count, signal) => {
      const values = await source.readRows(tensor, start, count, signal);
      const own = byTensor.get(keyOf(tensor));
      if (own === undefined) return values;
      const changed = values.slice();
      for (const { edit } of own) edit(changed, start, extentOf(source.shape, tensor.kind).columns);
      return changed;
    },
  };
}

function keyOf(tensor: TensorRef): string {
  return "layer" in tensor ? `${tensor.layer}.${tensor.kind}` : tensor.kind;
}

/** Every layer gets the outliers, at channels drawn from the seed. */
export function withScaledOutliers(
  source: ModelSource,
  kinds: readonly ScaledOutlier[],
  scales: OutlierScales = evenScales,
  seed = 1,
): ModelSource {
  const random = seededRandom(seed);
  const draw = (below: number): number => Math.floor(random.next() * below);
  const layers = Array.from({ length: source.shape.layers }, (_, layer) => layer);
  return withEdits(
    source,
    layers.flatMap((layer) => [
      ...(kinds.includes("H") ? hiddenEdits(source, layer, draw, scales.hidden) : []),
      ...(kinds.includes("K") ? keyEdits(source, layer, draw, scales.key) : []),
      ...(kinds.includes("V") ? valueEdits(source, layer, draw, scales.value) : []),
    ]),
  );
}

type Draw = (below: number) => number;

function hiddenEdits({ shape }: ModelSource, layer: number, draw: Draw, scale: number): TensorEdit[] {
  const first = draw(shape.ffnDim);
  // Half the channels apart: never the same one twice.
  const channels = Array.from(
    { length: hiddenChannelsPerLayer },
    (_, i) => (first + i * Math.floor(shape.ffnDim / hiddenChannelsPerLayer)) % shape.ffnDim,
  );
  return [
    { tensor: { kind: "up", layer }, edit: scaleRows(channels, scale) },
    { tensor: { kind: "down", layer }, edit: scaleColumns(channels, 1 / scale) },
  ];
}

function keyEdits({ shape }: ModelSource, layer: number, draw: Draw, scale: number): TensorEdit[] {
  const { heads, headsKv, headDim } = shape;
  // Trained models have them among the slowly turning pairs.
  const pair = headDim / 4 + draw(headDim / 4);
  const channels = [pair, pair + headDim / 2];
  if (shape.hasQkNorm) {
    // The norm takes any scaling of rows out again; its weights are those of all heads.
    return [
      { tensor: { kind: "kNorm", layer }, edit: scaleColumns(channels, scale) },
      { tensor: { kind: "qNorm", layer }, edit: scaleColumns(channels, 1 / scale) },
    ];
  }
  const headKv = draw(headsKv);
  const group = heads / headsKv;
  const k = channels.map((channel) => headKv * headDim + channel);
  const q = Array.from({ length: group }, (_, i) =>
    channels.map((channel) => (headKv * group + i) * headDim + channel),
  ).flat();
  const rows: TensorEdit[] = [
    { tensor: { kind: "k", layer }, edit: scaleRows(k, scale) },
    { tensor: { kind: "q", layer }, edit: scaleRows(q, 1 / scale) },
  ];
  if (!shape.hasQkvBias) return rows;
  return [
    ...rows,
    { tensor: { kind: "kBias", layer }, edit: scaleColumns(k, scale) },
    { tensor: { kind: "qBias", layer }, edit: scaleColumns(q, 1 / scale) },
  ];
}

function valueEdits({ shape }: ModelSource, layer: number, draw: Draw, scale: number): TensorEdit[] {
  const { heads, headsKv, headDim } = shape;
  const headKv = draw(headsKv);
  const channel = draw(headDim);
  const v = [headKv * headDim + channel];
  const group = heads / headsKv;
  const mixed = Array.from({ length: group }, (_, i) => (headKv * group + i) * headDim + channel);
  const edits: TensorEdit[] = [
    { tensor: { kind: "v", layer }, edit: scaleRows(v, scale) },
    { tensor: { kind: "attnOutput", layer }, edit: scaleColumns(mixed, 1 / scale) },
  ];
  if (!shape.hasQkvBias) return edits;
  return [...edits, { tensor: { kind: "vBias", layer }, edit: scaleColumns(v, scale) }];
}

function scaleRows(rows: readonly number[], factor: number): Edit {
  return (values, start, columns) => {
    for (const row of rows) {
      const at = (row - start) * columns;
      if (at < 0 || at >= values.length) continue;
      for (let i = at; i < at + columns; i++) values[i]! *= factor;
    }
  };
}

/** Also for vectors, which are one row. */
export function scaleColumns(channels: readonly number[], factor: number): Edit {
  return (values, _start, columns) => {
    for (let row = 0; row < values.length; row += columns) {
      for (const channel of channels) values[row + channel]! *= factor;
    }
  };
}

export function replaceRow(row: number, content: ArrayLike<number>): Edit {
  return (values, start, columns) => {
    const at = (row - start) * columns;
    if (at >= 0 && at < values.length) values.set(content, at);
  };
}

/** `content` has one number per row of the whole tensor. */
export function replaceColumn(channel: number, content: ArrayLike<number>): Edit {
  return (values, start, columns) => {
    for (let i = 0; i * columns < values.length; i++) values[i * columns + channel] = content[start + i]!;
  };
}
