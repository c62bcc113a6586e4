/** Messages between the engine and the thread that runs the model, beside those of every hosted engine. */
import type { offeredDialect } from "../chat-dialect.ts";
import type { FromHost, WireError } from "../hosted/messages.ts";
import type { MemoryWishes } from "./memory-plan.ts";

export interface ExactLoadOptions extends MemoryWishes {
  /** A converted model (`.skein`). */
  readonly modelPath: string;
  /** A smaller converted model with the same tokenizer, which guesses ahead. Default: none. */
  readonly draftPath?: string | null;
  /** What it must be; null: whatever it is. */
  readonly modelId: string | null;
  /** That share the work of a step. */
  readonly threads: number;
}

export interface LoadedFacts {
  readonly modelId: string;
  /** What its maker called it. */
  readonly name: string;
  /** Whether it fills in the middle of texts. */
  readonly hasInfill: boolean;
  readonly contextTokensMax: number;
  readonly parallelMax: number;
  /** Positions of all requests together. */
  readonly cacheTokensMax: number;
  /** What its chat template knows. */
  readonly dialect: ReturnType<typeof offeredDialect>;
}

export type FromThread =
  | { readonly type: "loaded"; readonly facts: LoadedFacts }
  | { readonly type: "load-failed"; readonly error: WireError }
  | FromHost;
