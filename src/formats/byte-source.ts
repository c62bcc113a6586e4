import { throwIfAborted } from "../util/abort.ts";
import { invalidModelFile } from "./errors.ts";

/** Bytes that can be read anywhere: a file, a blob in a browser, memory. */
export interface ByteSource {
  /** For people, and to tell the files of a model apart: usually a path. */
  readonly name: string;
  readonly size: number;
  /**
   * Exactly `length` bytes from `start`. The caller must not change them.
   * @throws SkeinError `invalid_model_file` when the source does not have them (any more), or changed; `cancelled`
   */
  read(start: number, length: number, signal: AbortSignal): Promise<Uint8Array>;
  /**
   * Fills `into`, which should be small, with the bytes from `start` on. For who checks them by their hash: a source that changes meanwhile may not be
   * noticed. @throws SkeinError as `read`
   */
  readInto(start: number, into: Uint8Array, signal: AbortSignal): Promise<void>;
}

export function memorySource(name: string, bytes: Uint8Array): ByteSource {
  const read: ByteSource["read"] = async (start, length, signal) => {
    throwIfAborted(signal);
    checkRange(name, bytes.length, start, length);
    return bytes.subarray(start, start + length);
  };
  return {
    name,
    size: bytes.length,
    read,
    readInto: async (start, into, signal) => into.set(await read(start, into.length, signal)),
  };
}

/** What every source does before it reads, and before it takes any memory. */
export function checkRange(name: string, size: number, start: number, length: number): void {
  const isInside =
    Number.isSafeInteger(start) &&
    Number.isSafeInteger(length) &&
    start >= 0 &&
    length >= 0 &&
    start + length <= size;
  if (!isInside)
    throw invalidModelFile(name, `has no bytes ${start} to ${start + length}: it has ${size} bytes`);
}
