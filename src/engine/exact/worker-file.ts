import { fileURLToPath } from "node:url";

/** Path of a thread's entry in this folder: TypeScript in a checkout, JavaScript in a package. */
export function besideThis(name: string): string {
  const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return fileURLToPath(new URL(`./${name}.${ending}`, import.meta.url));
}
