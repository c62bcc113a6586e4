import { throwIfAborted } from "../util/abort.ts";
import type { ByteSource } from "./byte-source.ts";
import { bytesOfRow, decodeElements, type ElementType, findNonFinite } from "./elements.ts";
import { invalidModelFile, shown } from "./errors.ts";

/** A matrix (or a vector, as one row) in a file, row by row. */
export interface StoredTensor {
  /** In the file. */
  readonly name: string;
  readonly source: ByteSource;
  /** First byte. */
  readonly start: number;
  readonly type: ElementType;
  readonly rows: number;
  readonly columns: number;
  /**
   * Length of the heads whose rotary pairs lie side by side, channels (2i, 2i + 1), which reading puts in their
   * place (i, i + headDim / 2); null when there are none.
   */
  readonly pairedHeadDim: number | null;
}

/** What is read from a source at once: enough to be fast, little enough to be no burden. */
const readBytesMax = 8 << 20;

/** Rows `[start, start + count)`. @throws SkeinError as `ModelSource.readRows` does */
export async function readStoredRows(
  tensor: StoredTensor,
  start: number,
  count: number,
  signal: AbortSignal,
): Promise<Float32Array> {
  const isInside = Number.isSafeInteger(start) && Number.isSafeInteger(count) && start >= 0 && count >= 0;
  if (!isInside || start + count > tensor.rows) {
    throw new RangeError(`rows ${start} to ${start + count} of ${tensor.rows} in ${tensor.name}`);
  }
  throwIfAborted(signal);
  const headDim = tensor.pairedHeadDim;
  if (headDim === null) return readAsStored(tensor, start, count, signal);
  if (tensor.rows === 1) {
    const vector = await readAsStored(tensor, start, count, signal);
    return vector.map((_, channel) => vector[storedChannel(channel, headDim)]!);
  }
  return readUnpaired(tensor, headDim, start, count, signal);
}

/** Where a channel of the result stands in the file. */
function storedChannel(channel: number, headDim: number): number {
  const inHead = channel % headDim;
  const half = headDim / 2;
  return channel - inHead + (inHead < half ? 2 * inHead : 2 * (inHead - half) + 1);
}

/** Head by head: the rows of one head stay in one head. */
async function readUnpaired(
  tensor: StoredTensor,
  headDim: number,
  start: number,
  count: number,
  signal: AbortSignal,
): Promise<Float32Array> {
  const { columns } = tensor;
  const result = new Float32Array(count * columns);
  for (let row = start; row < start + count;) {
    const end = Math.min(start + count, row - (row % headDim) + headDim);
    const places = Array.from({ length: end - row }, (_, i) => storedChannel(row + i, headDim));
    const first = places.reduce((a, b) => Math.min(a, b));
    const last = places.reduce((a, b) => Math.max(a, b));
    const stored = await readAsStored(tensor, first, last - first + 1, signal);
    for (const [i, place] of places.entries()) {
      const from = (place - first) * columns;
      result.set(stored.subarray(from, from + columns), (row + i - start) * columns);
    }
    row = end;
  }
  return result;
}

async function readAsStored(
  tensor: StoredTensor,
  start: number,
  count: number,
  signal: AbortSignal,
): Promise<Float32Array> {
  const { type, columns, source } = tensor;
  const rowBytes = bytesOfRow(type, columns);
  const rowsPerRead = Math.max(1, Math.floor(readBytesMax / rowBytes));
  const result = new Float32Array(count * columns);
  for (let done = 0; done < count; done += rowsPerRead) {
    const rows = Math.min(rowsPerRead, count - done);
    const bytes = await source.read(tensor.start + (start + done) * rowBytes, rows * rowBytes, signal);
    const part = result.subarray(done * columns, (done + rows) * columns);
    decodeElements(type, bytes, part);
    const bad = findNonFinite(part);
    if (bad >= 0) {
      const row = start + done + Math.floor(bad / columns);
      throw invalidModelFile(
        source.name,
        `has a value that is not a finite number in row ${row} of tensor ${shown(tensor.name)}`,
      );
    }
  }
  return result;
}
