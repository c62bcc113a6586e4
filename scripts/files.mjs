import { readdirSync } from "node:fs";
import { join } from "node:path";

/** Paths of all files below `folder` whose name ends in `suffix`, sorted. */
export function findFiles(folder, suffix) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(suffix))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
