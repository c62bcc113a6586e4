import { readSync } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { throwIfAborted } from "../util/abort.ts";
import type { SkeinError } from "../util/errors.ts";
import { type ByteSource, checkRange } from "../formats/byte-source.ts";
import { invalidModelFile } from "../formats/errors.ts";

/** Of one call: Node ends the process when it is asked for 2 GiB or more, and between two pieces a reader can stop. */
const pieceBytes: number = 64 * 2 ** 20;

export interface FileSource extends ByteSource {
  /** The open file, for threads that read beside this one. */
  readonly descriptor: number;
  close(): Promise<void>;
}

/** Opens a regular file for reading anywhere in it; the source's name is the path. */
export async function openFileSource(path: string): Promise<FileSource> {
  // Before opening: to open a named pipe would wait for its writer.
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw unreadable(path, error);
  });
  if (info.isDirectory()) throw invalidModelFile(path, "is a directory, not a file");
  if (!info.isFile()) throw invalidModelFile(path, "is not a regular file");
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    throw unreadable(path, error);
  });
  try {
    const { size, mtimeNs } = await file.stat({ bigint: true });
    return fileSource(path, file, Number(size), mtimeNs);
  } catch (error) {
    await file.close();
    throw unreadable(path, error as NodeJS.ErrnoException);
  }
}

function fileSource(path: string, file: FileHandle, size: number, openedMtimeNs: bigint): FileSource {
  async function readWhole(start: number, length: number, signal: AbortSignal): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    // One call may read less than it was asked for.
    for (let done = 0; done < length;) {
      throwIfAborted(signal);
      const { bytesRead } = await file.read(bytes, done, Math.min(length - done, pieceBytes), start + done);
      if (bytesRead === 0) throw shortened(path);
      done += bytesRead;
    }
    const now = await file.stat({ bigint: true });
    if (Number(now.size) !== size || now.mtimeNs !== openedMtimeNs) {
      throw invalidModelFile(path, "changed while it was read");
    }
    return bytes;
  }
  const check = (start: number, length: number, signal: AbortSignal): void => {
    throwIfAborted(signal);
    checkRange(path, size, start, length);
  };
  const named = (error: unknown): unknown => (isSystemError(error) ? unreadable(path, error) : error);
  return {
    name: path,
    size,
    descriptor: file.fd,
    close: () => file.close(),
    read: async (start, length, signal) => {
      check(start, length, signal);
      return readWhole(start, length, signal).catch((error: unknown) => {
        throw named(error);
      });
    },
    readInto: async (start, into, signal) => {
      check(start, into.length, signal);
      try {
        if (!readFully(file.fd, start, into)) throw shortened(path);
      } catch (error) {
        throw named(error);
      }
    },
  };
}

/** At once: to wait for another thread takes longer than to copy a few pages. Returns whether the file has so many bytes. */
function readFully(descriptor: number, start: number, into: Uint8Array): boolean {
  for (let done = 0, read = 0; done < into.length; done += read) {
    read = readSync(descriptor, into, done, into.length - done, start + done);
    if (read === 0) return false;
  }
  return true;
}

function shortened(path: string): SkeinError {
  return invalidModelFile(path, "became shorter while it was read");
}

function unreadable(path: string, error: NodeJS.ErrnoException): SkeinError {
  const why = error.code === "ENOENT" ? "does not exist" : `cannot be read (${error.code ?? error.message})`;
  return invalidModelFile(path, why, undefined, error);
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error;
}
