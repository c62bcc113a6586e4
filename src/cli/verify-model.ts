/** The model that a receipt names, from a file, a folder, or among those that were converted already. */
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { withConverted } from "../engine/exact/convert.ts";
import { type LoadedModel, loadModel } from "../engine/exact/load.ts";
import { exactNameOf } from "../engine/exact/name.ts";
import type { Quantization } from "../exact/model/model.ts";
import { SkeinError } from "../util/errors.ts";
import type { Context } from "./context.ts";
import { createProgress } from "./progress.ts";
import { exactCacheFolder } from "./provider-config.ts";

const quantizations: readonly Quantization[] = ["int8-row", "int4-group32"];

/**
 * Loads it, with room for so many positions, and hands it over.
 * @throws SkeinError `invalid_config` when it is not there or is another one; as `loadModel`
 */
export async function withModelOf<T>(
  { home }: Context,
  named: string,
  { modelId, positions }: { modelId: string; positions: number },
  use: (loaded: LoadedModel) => Promise<T>,
): Promise<T> {
  const folder = exactCacheFolder(home);
  const files = existsSync(named) ? [resolve(named)] : convertedOf(folder, named);
  if (files.length === 0) {
    throw new SkeinError("invalid_config", `There is no model '${named}'.`, {
      hint: "Give a .skein file, a GGUF file or a folder, or the name of a model that was converted here.",
    });
  }
  const { signal } = new AbortController();
  let other = "";
  for (const file of files) {
    // Of what is not converted yet: either way of rounding.
    const kinds = file.endsWith(".skein") ? [{}] : quantizations.map((quantization) => ({ quantization }));
    for (const kind of kinds) {
      const progress = createProgress("converting the model to integers (once)");
      const onProgress = (done: number, total: number): void => progress.show(done, total);
      const loaded = await withConverted(file, folder, { signal, ...kind, onProgress }, (modelPath) => {
        progress.end();
        const wishes = { parallel: 1, contextTokens: positions, threads: 1 };
        return loadModel({ modelPath, modelId: null, ...wishes }, () => undefined);
      }).finally(() => progress.end());
      if (loaded.facts.modelId === modelId) return use(loaded);
      other = loaded.facts.modelId;
    }
  }
  throw new SkeinError("invalid_config", `The receipt is of ${modelId}, but '${named}' is ${other}.`);
}

/** Converted models of that name. */
function convertedOf(folder: string, name: string): string[] {
  if (!existsSync(folder)) return [];
  const isNamed = (file: string): boolean =>
    quantizations.some((kind) => {
      const [model] = file.split(`-${kind}-`);
      return model !== file && (model === name || exactNameOf(model!) === name);
    });
  return readdirSync(folder)
    .filter((file) => file.endsWith(".skein") && isNamed(file))
    .map((file) => join(folder, file));
}
