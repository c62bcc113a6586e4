/** A sink into the kernels' memory, for models that come tensor by tensor. */
import type { TensorRef } from "../../formats/model-source.ts";
import type { ExactShape, LayerRange, Matrix } from "../model/model.ts";
import { isInRange, type ModelSink } from "../model/sink.ts";
import { bytesOfMatrix, bytesOfNorm, type TensorExtent } from "../model/weight-bytes.ts";
import type { KernelMemory } from "./kernels.ts";
import { placeBytes } from "./pieces.ts";
import {
  allocateTensor,
  type AllocatedTensor,
  type PlacedMatrix,
  type Section,
  sectionsOf,
} from "./weights.ts";

/** Room for what is placed at once; a multiple of whatever belongs together. */
const stepBytes = 65_536;

/** `tensors` is complete when every tensor of the range has come. */
export function placeModel({
  memory,
  shape,
  range,
  threads,
}: {
  readonly memory: KernelMemory;
  readonly shape: ExactShape;
  readonly range: LayerRange;
  readonly threads: number;
}): { readonly sink: ModelSink; readonly tensors: (readonly [TensorRef, AllocatedTensor])[] } {
  const tensors: (readonly [TensorRef, AllocatedTensor])[] = [];
  const room = memory.allocate(stepBytes);
  const place = (
    tensor: TensorRef,
    extent: Omit<TensorExtent, "bytes">,
    parts: readonly Uint8Array[],
  ): void => {
    const allocated = allocateTensor(memory, extent, threads);
    placeParts(memory, sectionsOf(allocated), parts, room);
    tensors.push([tensor, allocated]);
  };
  const sink: ModelSink = {
    norm(tensor, norm) {
      if (!isInRange(tensor, shape, range)) return;
      const columns = norm.mantissas.length;
      const extent = { rows: 1, columns, hasBias: false, isNorm: true, format: "int8-row" } as const;
      place(tensor, extent, bytesOfNorm(norm));
    },
    matrix(tensor, matrix) {
      if (isInRange(tensor, shape, range)) place(tensor, extentOfMatrix(matrix), bytesOfMatrix(matrix));
    },
  };
  return { sink, tensors };
}

/** One matrix alone. */
export function placeMatrix(memory: KernelMemory, matrix: Matrix, threads: number): PlacedMatrix {
  const placed = allocateTensor(memory, extentOfMatrix(matrix), threads) as PlacedMatrix;
  placeParts(memory, sectionsOf(placed), bytesOfMatrix(matrix), memory.allocate(stepBytes));
  return placed;
}

function extentOfMatrix({ rows, columns, bias, format }: Matrix): Omit<TensorExtent, "bytes"> {
  return { rows, columns, hasBias: bias !== null, isNorm: false, format };
}

/** Each part is one section: weights, scales, … */
function placeParts(
  memory: KernelMemory,
  sections: readonly Section[],
  parts: readonly Uint8Array[],
  room: number,
): void {
  let start = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; at += stepBytes) {
      const some = part.subarray(at, at + stepBytes);
      memory.bytes(room, some.length).set(some);
      placeBytes(memory, sections, room, start + at, some.length);
    }
    start += part.length;
  }
}
