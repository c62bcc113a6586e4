/**
 * The `llama` engine: llama.cpp through node-llama-cpp, in a child process that is started again when
 * native code crashes or hangs.
 */
import type { Clock } from "../../util/clock.ts";
import type { Logger } from "../../util/log.ts";
import { featuresOf } from "../features.ts";
import { createHostedEngine } from "../hosted/engine.ts";
import type { Engine } from "../port.ts";
import type { LlamaLoadOptions } from "./messages.ts";
import { startLlamaProcess } from "./process.ts";

export type { LlamaLoadOptions } from "./messages.ts";

export interface LlamaEngineOptions extends LlamaLoadOptions {
  readonly modelId: string;
  readonly name: string;
}

/** Loads the model. @throws SkeinError `invalid_model_file`, `engine_not_installed`, `engine_unavailable` */
export async function createLlamaEngine(
  deps: { clock: Clock; log: Logger },
  options: LlamaEngineOptions,
): Promise<Engine & { readonly backend: string; processId(): number | null }> {
  const engine = await createHostedEngine(deps, {
    kind: "llama",
    canScore: true,
    start: (events) => startLlamaProcess(options, events),
    model: ({ contextTokens, dialect, hasInfill }) => ({
      modelId: options.modelId,
      name: options.name,
      contextTokensMax: contextTokens,
      parallelMax: options.parallel,
      trustTier: "float",
      resumable: true,
      ...dialect,
      features: [...featuresOf({ hasInfill }), ...dialect.features],
    }),
  });
  return {
    ...engine,
    backend: engine.host()!.backend,
    processId: () => engine.host()?.pid ?? null,
  };
}
