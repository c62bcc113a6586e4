import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { open, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { ByteTarget } from "../../exact/container/write.ts";
import { SkeinError } from "../../util/errors.ts";

const unfinishedSuffix = ".part";
/** A writer writes all the time: what lies still for so long was abandoned. */
const abandonedMs = 60 * 60_000;
const unfinishedName = /\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.part$/;
/** Of one call: Node ends the process when it is asked for 2 GiB or more. */
const pieceBytes: number = 64 * 2 ** 20;

/**
 * Gives `write` a file that gets its name only when it is whole: whatever happens before leaves nothing behind; what a
 * process that was killed has left is removed by a later one.
 * @param bytesNeeded asked of the disk before anything is written
 */
export async function writeFileAtomically<T>(
  path: string,
  bytesNeeded: number,
  write: (target: ByteTarget) => Promise<T>,
): Promise<T> {
  await removeAbandoned(dirname(path), `${basename(path)}.`);
  await checkRoom(path, bytesNeeded);
  // Each writer has its own: of two at a time the last one wins, with the same bytes.
  const unfinished = `${path}.${randomUUID()}${unfinishedSuffix}`;
  const file = await open(unfinished, "wx", 0o600).catch((error: NodeJS.ErrnoException) => {
    throw unwritable(path, error);
  });
  const onExit = (): void => rmSync(unfinished, { force: true });
  process.on("exit", onExit);
  try {
    const result = await write({
      async write(at, bytes) {
        for (let done = 0; done < bytes.length;) {
          const length = Math.min(bytes.length - done, pieceBytes);
          const { bytesWritten } = await file.write(bytes, done, length, at + done);
          done += bytesWritten;
        }
      },
      finish: (size) => file.truncate(size),
    });
    await file.sync();
    await file.close();
    await rename(unfinished, path);
    return result;
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(unfinished, { force: true });
    throw isSystemError(error) ? unwritable(path, error) : error;
  } finally {
    process.off("exit", onExit);
  }
}

/** @throws SkeinError `invalid_config` when something else than a file is there */
export async function checkIsFileOrNothing(path: string): Promise<void> {
  const info = await stat(path).catch(() => null);
  if (info === null || info.isFile()) return;
  throw new SkeinError(
    "invalid_config",
    `${path} is ${info.isDirectory() ? "a folder" : "no regular file"}.`,
    { hint: "Give the name of a file, which may exist or not." },
  );
}

/** Removes what killed processes left in a folder of files whose names begin like this. */
export async function removeAbandoned(folder: string, beginning = ""): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith(beginning) || !unfinishedName.test(name)) continue;
    const path = join(folder, name);
    const info = await stat(path).catch(() => null);
    const isAbandoned = info?.isFile() === true && Date.now() - info.mtimeMs > abandonedMs;
    // Who may not remove it can still write another.
    if (isAbandoned) await rm(path, { force: true }).catch(() => undefined);
  }
}

async function checkRoom(path: string, bytesNeeded: number): Promise<void> {
  const disk = await statfs(dirname(path)).catch((error: NodeJS.ErrnoException) => {
    throw unwritable(path, error);
  });
  const free = disk.bavail * disk.bsize;
  if (free >= bytesNeeded) return;
  const giga = (bytes: number): string => (bytes / 1e9).toFixed(2);
  throw new SkeinError(
    "invalid_config",
    `${path} needs ${giga(bytesNeeded)} GB, but its disk has ${giga(free)} GB left.`,
    { hint: "Make room, or choose another place." },
  );
}

function unwritable(path: string, error: NodeJS.ErrnoException): SkeinError {
  return new SkeinError("invalid_config", `${path} cannot be written (${error.code ?? error.message}).`, {
    hint: "Choose another place, or change its permissions.",
    cause: error,
  });
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error;
}
