/** From any model file to a running engine: converts where that is needed, and again where the conversion is damaged. */
import { rm } from "node:fs/promises";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";
import { type ConvertFileOptions, prepareModel } from "./convert.ts";
import { createExactEngine, type ExactEngineOptions } from "./index.ts";

export interface OpenExactOptions extends ExactEngineOptions, ConvertFileOptions {
  /** Where converted models are kept. */
  readonly cacheFolder: string;
  /** The model is there in converted form; what follows is loading. */
  readonly onConverted?: (path: string) => void;
}

/** @throws SkeinError as `prepareModel` and `createExactEngine` */
export async function openExactEngine(
  deps: { clock: Clock; log: Logger },
  options: OpenExactOptions,
): ReturnType<typeof createExactEngine> {
  const open = async (mayConvertAgain: boolean): ReturnType<typeof createExactEngine> => {
    const { path, isCached } = await prepareModel(options.modelPath, options.cacheFolder, options);
    options.onConverted?.(path);
    try {
      return await createExactEngine(deps, { ...options, modelPath: path });
    } catch (error) {
      const isDamaged = error instanceof SkeinError && error.code === "invalid_model_file";
      if (!isDamaged || !isCached || !mayConvertAgain) throw error;
      deps.log.warn({ path, reason: error.message }, "the converted model is made again");
      await rm(path, { force: true });
      return open(false);
    }
  };
  return open(true);
}
