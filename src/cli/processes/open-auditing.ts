/** What a gateway checks answers with, from its configuration. */
import { prepareModel } from "../../engine/exact/convert.ts";
import { canaryPrompts } from "../../gateway/audits/canaries.ts";
import { createCheckerThread } from "../../gateway/audits/checker-thread.ts";
import { auditRoundMs } from "../../gateway/audits/options.ts";
import type { GatewayOptions } from "../../gateway/index.ts";
import type { Signer } from "../../protocol/signing.ts";
import { systemClock } from "../../util/clock.ts";
import type { AuditConfig } from "./config.ts";

/** @throws SkeinError `invalid_model_file`, `unsupported_model`: an operator who names a model wants it used */
export async function openAuditing(
  signer: Signer,
  config: AuditConfig | null,
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
