/**
 * The `exact` engine: models in integers, whose answers are the same bits on every machine. The model runs in a thread
 * of its own, which is started again when it crashes or hangs.
 */
import type { Clock } from "../../util/clock.ts";
import type { Logger } from "../../util/log.ts";
import { featuresOf } from "../features.ts";
import { createHostedEngine } from "../hosted/engine.ts";
import type { Engine } from "../port.ts";
import type { MemoryWishes } from "./memory-plan.ts";
import type { ExactLoadOptions } from "./messages.ts";
import { exactNameOf } from "./name.ts";
import { startExactThread } from "./thread.ts";

export interface ExactEngineOptions extends MemoryWishes {
  /** A converted model (`.skein`). */
  readonly modelPath: string;
  /** A smaller converted model with the same tokenizer, which guesses ahead: the same answers, sooner. Default: none. */
  readonly draftPath?: string | null;
  /** Null: what the file says. */
  readonly name: string | null;
  /** That share the work; more than the machine has idle cores make it slower. */
  readonly threads: number;
}

/** Loads the model. @throws SkeinError `invalid_model_file`, `unsupported_model`, `engine_unavailable` */
export async function createExactEngine(
  deps: { clock: Clock; log: Logger },
  options: ExactEngineOptions,
): Promise<Engine & { /** Ends the thread as a crash would. */ kill(): void }> {
  const { modelPath, draftPath = null, parallel, contextTokens, threads } = options;
  let load: ExactLoadOptions = { modelPath, draftPath, parallel, contextTokens, threads, modelId: null };
  const engine = await createHostedEngine(deps, {
    kind: "exact",
    // Its answers are checked by equality.
    canScore: false,
    async start(events) {
      const thread = await startExactThread(load, events);
      const { modelId, parallelMax, contextTokensMax } = thread.facts;
      // What was offered stays true after a restart.
      load = { ...load, parallel: parallelMax, contextTokens: contextTokensMax, modelId };
      return thread;
    },
    model: ({ facts }) => ({
      modelId: facts.modelId,
      name: options.name ?? exactNameOf(facts.name),
      contextTokensMax: facts.contextTokensMax,
      parallelMax: facts.parallelMax,
      trustTier: "exact",
      resumable: true,
      ...facts.dialect,
      features: [...featuresOf(facts), ...facts.dialect.features],
    }),
  });
  return { ...engine, kill: () => engine.host()?.kill() };
}
