/** From any model file to a running engine. */
import type { Clock } from "../../util/clock.ts";
import type { Logger } from "../../util/log.ts";
import { type ConvertFileOptions, withConverted } from "./convert.ts";
import { createExactEngine, type ExactEngineOptions } from "./index.ts";

export interface OpenExactOptions extends ExactEngineOptions, ConvertFileOptions {
  /** Where converted models are kept. */
  readonly cacheFolder: string;
  /** The model is there in converted form; what follows is loading. */
  readonly onConverted?: () => void;
}

/** @throws SkeinError as `withConverted` and `createExactEngine` */
export function openExactEngine(
  deps: { clock: Clock; log: Logger },
  options: OpenExactOptions,
): ReturnType<typeof createExactEngine> {
  const { draftPath = null, cacheFolder } = options;
  const withDraft = <T>(act: (converted: string | null) => Promise<T>): Promise<T> =>
    draftPath === null ? act(null) : withConverted(draftPath, cacheFolder, options, act);
  return withDraft((draft) =>
    withConverted(options.modelPath, cacheFolder, options, (modelPath) => {
      options.onConverted?.();
      return createExactEngine(deps, { ...options, modelPath, draftPath: draft });
    }),
  );
}
