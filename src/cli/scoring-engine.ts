/** The float model that a receipt names, ready to say how well an answer fits it. */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { type CalibrationRecord, parseCalibration } from "../audit/calibration.ts";
import type { Scoring } from "../audit/honest-streams.ts";
import { modelIdOfGguf } from "../engine/gguf/identity.ts";
import { inspectGguf } from "../engine/gguf/inspect.ts";
import { createLlamaEngine, type LlamaEngineOptions } from "../engine/llama/index.ts";
import { systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import type { Logger } from "../util/log.ts";
import type { Context } from "./context.ts";
import { requireLlamaEngine } from "./engine-install.ts";
import { createLogger } from "./logger.ts";
import { calibrationFile, identityCacheFolder, logLevelOf, threadsOf } from "./provider-config.ts";

/**
 * Loads it, with room for so many tokens, and hands it over with what `skein calibrate` found for it here (null: nothing).
 * @throws SkeinError `invalid_config` when it is not there or is another one
 */
export async function withScoringEngine<T>(
  context: Context,
  named: string,
  wanted: { readonly modelId: string; readonly contextTokens: number; readonly signal: AbortSignal },
  use: (engine: ScoringEngine, calibration: CalibrationRecord | null) => Promise<T>,
): Promise<T> {
  const { home, settings, flags } = context;
  const { modelId, signal } = wanted;
  const modelPath = resolve(named);
  if (!existsSync(modelPath)) {
    throw new SkeinError("invalid_config", `There is no model file '${named}'.`, {
      hint: `Give the GGUF file of ${modelId}.`,
    });
  }
  const found = await modelIdOfGguf(modelPath, { cacheFolder: identityCacheFolder(home), signal });
  if (found !== modelId) {
    throw new SkeinError("invalid_config", `The receipt is of ${modelId}, but '${named}' is ${found}.`);
  }
  const calibration = readCalibration(home, modelId, flags["calibration"] as string | undefined);
  const { contextTokens } = wanted;
  const threads = threadsOf(settings.threads);
  const engine = await openScoringEngine(context, {
    modelPath,
    modelId,
    contextTokens,
    parallel: 1,
    threads,
  });
  try {
    return await use(engine, calibration);
  } finally {
    await engine.close();
  }
}

export type ScoringEngine = Awaited<ReturnType<typeof createLlamaEngine>> & Scoring;

/** llama.cpp as it runs on this machine. @throws SkeinError */
export async function openScoringEngine(
  context: Context,
  wishes: Pick<LlamaEngineOptions, "modelPath" | "modelId" | "contextTokens" | "parallel" | "threads">,
): Promise<ScoringEngine> {
  const { home, settings } = context;
  const moduleFolder = requireLlamaEngine(home);
  const gpu = settings.gpu === "auto" ? "auto" : false;
  return openScoring(createLogger(logLevelOf(context), "scoring"), { ...wishes, moduleFolder, gpu });
}

/** The same for a process without a command line. @throws SkeinError */
export async function openScoring(
  log: Logger,
  options: Omit<LlamaEngineOptions, "name">,
): Promise<ScoringEngine> {
  const { name } = await inspectGguf(options.modelPath);
  const engine = await createLlamaEngine({ clock: systemClock, log }, { ...options, name });
  if (engine.score === undefined) throw new SkeinError("internal_error", "This engine cannot score answers.");
  return engine as ScoringEngine;
}

/** Null: nobody has calibrated it here. @throws SkeinError `invalid_config` */
export function readCalibration(home: string, modelId: string, named?: string): CalibrationRecord | null {
  const file = named ?? calibrationFile(home, modelId);
  if (named === undefined && !existsSync(file)) return null;
  try {
    return parseCalibration(readFileSync(file, "utf8"));
  } catch (error) {
    if (error instanceof SkeinError) throw error;
    throw new SkeinError("invalid_config", `${file} cannot be read: ${(error as Error).message}`);
  }
}
