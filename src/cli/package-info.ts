import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The package's folder: `src/cli` and `dist/cli` lie equally deep in it. */
export const packageFolder: string = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** "ts" in a checkout, "js" in an installed package. */
export const moduleExtension: "ts" | "js" = import.meta.url.endsWith(".ts") ? "ts" : "js";

export const packageVersion: string = (
  JSON.parse(readFileSync(join(packageFolder, "package.json"), "utf8")) as { version: string }
).version;

export const software: string = `skein/${packageVersion}`;

export const demoModelFile: string = join(packageFolder, "models", "tiny.Q8_0.gguf");
