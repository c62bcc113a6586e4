/** What a gateway checks answers with, from its configuration. */
import { prepareModel } from "../../engine/exact/convert.ts";
import { canaryPrompts } from "../../gateway/audits/canaries.ts";
import { createFloatScales, type FloatScales } from "../../gateway/audits/float-scales.ts";
import { createCheckerThread } from "../../gateway/audits/checker-thread.ts";
import { auditRoundMs } from "../../gateway/audits/options.ts";
import type { GatewayOptions } from "../../gateway/index.ts";
import type { Signer } from "../../protocol/signing.ts";
import { systemClock } from "../../util/clock.ts";
import type { CalibrationRecord } from "../../audit/calibration.ts";
import { modelIdOfGguf } from "../../engine/gguf/identity.ts";
import type { Logger } from "../../util/log.ts";
import { SkeinError } from "../../util/errors.ts";
import { identityCacheFolder } from "../provider-config.ts";
import { openScoring, readCalibration } from "../scoring-engine.ts";
import type { AuditConfig, AuditLlamaConfig } from "./config.ts";

/** @throws SkeinError `invalid_model_file`, `unsupported_model`: an operator who names a model wants it used */
export async function openAuditing(
  signer: Signer,
  config: AuditConfig | null,
  log: Logger,
): Promise<Pick<GatewayOptions, "audits">> {
  if (config === null) return {};
  const { signal } = new AbortController();
  const files: string[] = [];
  for (const model of config.models) {
    files.push((await prepareModel(model, config.modelFolder, { signal })).path);
  }
  const prompts = config.canaryPrompts.map(
    (content) => ({ kind: "chat", messages: [{ role: "user", content }] }) as const,
  );
  const audits = {
    signer,
    ...(config.llama === null ? {} : { scales: await openScales(config.llama, log) }),
    checker: await createCheckerThread(systemClock, { files, folder: config.modelFolder }),
    roundMs: auditRoundMs,
    retentionMs: config.retentionMs,
    canaries:
      config.canaryIntervalMs === 0
        ? null
        : { intervalMs: config.canaryIntervalMs, prompts: prompts.length === 0 ? canaryPrompts : prompts },
  };
  return { audits };
}

/** @throws SkeinError `invalid_config` when a model is not calibrated here: without that nothing can be said */
async function openScales(config: AuditLlamaConfig, log: Logger): Promise<FloatScales> {
  const { home, models } = config;
  const { signal } = new AbortController();
  const files = new Map<string, string>();
  const calibrations: CalibrationRecord[] = [];
  for (const modelPath of models) {
    const modelId = await modelIdOfGguf(modelPath, { cacheFolder: identityCacheFolder(home), signal });
    const calibration = readCalibration(home, modelId);
    if (calibration === null) {
      throw new SkeinError("invalid_config", `${modelPath} is not calibrated on this machine.`, {
        hint: `Do it once: skein calibrate --model ${modelPath}`,
      });
    }
    files.set(modelId, modelPath);
    calibrations.push(calibration);
  }
  return createFloatScales(systemClock, calibrations, (modelId, contextTokens) =>
    openScoring(log, { ...config, modelPath: files.get(modelId)!, modelId, contextTokens, parallel: 1 }),
  );
}
