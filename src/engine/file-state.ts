import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";

/**
 * Key for what is derived from files: changes whenever one of them does, as far as its directory entry tells, or
 * `version` does.
 */
export async function stateOfFiles(paths: readonly string[], version: number | string): Promise<string> {
  const states = await Promise.all(
    paths.map(async (path) => {
      const { size, mtimeMs, ino, dev } = await stat(path);
      return [path, size, mtimeMs, ino, dev];
    }),
  );
  const key = JSON.stringify([version, ...states]);
  return createHash("sha256").update(key).digest("hex").slice(0, 32);
}
