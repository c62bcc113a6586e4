import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { usdToNano } from "../protocol/price.ts";
import { gatewaysMax } from "../provider/index.ts";
import { SkeinError } from "../util/errors.ts";
import type { Context } from "./context.ts";
import { requireLlamaEngine } from "./engine-install.ts";
import type { EngineConfig, ProviderConfig } from "./processes/config.ts";
import { quantizationOf, quantizationOption } from "./quantization.ts";

/**
 * One core stays free unless somebody says otherwise: threads wait for each other actively, and starve when one has to
 * share. So there are never more of them than cores.
 */
export function threadsOf(asked: number | null, cores: number = availableParallelism()): number {
  return asked === null ? Math.max(1, cores - 1) : Math.min(asked, cores);
}

/** What to tell about a wish that is not granted; null: it is. */
export function threadsWarning(asked: number | null, cores: number = availableParallelism()): string | null {
  if (asked === null || asked <= cores) return null;
  return `${asked} threads are asked for, but this machine has ${cores} cores; the model gets ${cores}.`;
}

/** A provider's configuration from the flags of `provide` (or of `up`) and the settings. */
export function providerConfigOf(context: Context, identityFile: string): ProviderConfig {
  const { settings, flags, home } = context;
  return {
    role: "provider",
    identityFile,
    identityCacheFolder: identityCacheFolder(home),
    receiptsFile: `${identityFile.replace(/\.key$/, "")}.receipts.db`,
    join: joinTargetsOf(context),
    joinToken: (flags["token"] as string | undefined) ?? settings.joinToken,
    lan: settings.lan,
    region: settings.region,
    price: {
      inputPerMillionTokens: usdToNano(settings.priceInput)!,
      outputPerMillionTokens: usdToNano(settings.priceOutput)!,
      perSecond: usdToNano(settings.priceSecond)!,
    },
    engine: engineConfigOf(context),
    drainTimeoutMs: settings.drainTimeoutMs,
    once: flags["once"] === true,
    logLevel: logLevelOf(context),
  };
}

/** @throws SkeinError `invalid_config` */
function joinTargetsOf({ settings, resolved }: Context): string[] {
  // With --lan the gateway is somewhere else than on this machine, unless somebody says so.
  const targets = settings.lan && resolved.sources.join === "default" ? [] : [...new Set(settings.join)];
  if (targets.length === 0 && !settings.lan) {
    throw new SkeinError("invalid_config", "There is no gateway to join.", {
      hint: "Name one with --join, or find it on the local network with --lan.",
    });
  }
  if (targets.length <= gatewaysMax) return targets;
  throw new SkeinError("invalid_config", `--join names ${targets.length} gateways.`, {
    hint: `A provider serves at most ${gatewaysMax}.`,
  });
}

export function logLevelOf({ settings, flags, resolved }: Context): string {
  return flags["verbose"] === true && resolved.sources.logLevel === "default" ? "info" : settings.logLevel;
}

function engineConfigOf(context: Context): EngineConfig {
  const { settings, flags, home, resolved } = context;
  const name = (flags["name"] as string | undefined) ?? null;
  const common = { name, contextTokens: settings.context, parallel: settings.parallel };
  const kind = engineKindOf(flags);
  if (kind !== "exact" && quantizationOf(flags) !== undefined) {
    throw new SkeinError("invalid_config", `--bits is for the exact engine, not for ${kind}.`, {
      hint: "Add --engine exact, or leave --bits out.",
    });
  }
  if (kind !== "exact" && flags["draft"] !== undefined) {
    throw new SkeinError("invalid_config", `--draft is for the exact engine, not for ${kind}.`, {
      hint: "Add --engine exact, or leave --draft out.",
    });
  }
  if (kind !== "openai" && flags["resumeBy"] !== undefined) {
    throw new SkeinError("invalid_config", `--resume-by is for --engine openai, not for ${kind}.`, {
      hint: "Leave it out: this engine goes on at the same token.",
    });
  }
  if (kind === "openai") {
    return {
      kind,
      url: flags["url"] as string,
      upstreamModel: (flags["upstreamModel"] as string | undefined) ?? null,
      resumeByText: flags["resumeBy"] === "text",
      apiKey: settings.upstreamKey,
      ...common,
    };
  }
  const modelPath = resolve(flags["model"] as string);
  if (kind === "exact") {
    const parallel = resolved.sources.parallel === "default" ? null : settings.parallel;
    const threads = threadsOf(settings.threads);
    const cacheFolder = exactCacheFolder(home);
    const draft = flags["draft"] as string | undefined;
    const draftPath = draft === undefined ? null : resolve(draft);
    const files = { modelPath, draftPath, ...quantizationOption(flags), cacheFolder };
    return { kind, ...files, ...common, parallel, threads };
  }
  return {
    kind,
    modelPath,
    moduleFolder: requireLlamaEngine(home),
    threads: threadsOf(settings.threads),
    gpu: settings.gpu === "auto" ? "auto" : false,
    ...common,
  };
}

/** Where identities of model files are remembered. */
export function identityCacheFolder(home: string): string {
  return join(home, "cache", "identities");
}

/** Where `skein calibrate` keeps what it found for a model on this machine. */
export function calibrationFile(home: string, modelId: string): string {
  return join(home, "calibrations", `${modelId.replace(":", "-")}.json`);
}

/** Where models are kept that were converted for the exact engine. */
export function exactCacheFolder(home: string): string {
  return join(home, "exact");
}

/** @throws SkeinError `invalid_config` when what the engine needs is not given */
function engineKindOf(flags: Context["flags"]): EngineConfig["kind"] {
  const { engine, url, model } = flags as Partial<Record<string, string>>;
  if (engine === "openai" || (engine === undefined && url !== undefined)) {
    if (url !== undefined) return "openai";
    throw new SkeinError("invalid_config", "--engine openai needs the server's --url.", {
      hint: "For example --url http://127.0.0.1:11434/v1 for Ollama.",
    });
  }
  if (model === undefined) {
    throw new SkeinError("invalid_config", "There is nothing to provide.", {
      hint: "Give a model file with --model, or a running server with --engine openai --url.",
    });
  }
  return engine === "exact" || (engine === undefined && model.endsWith(".skein")) ? "exact" : "llama";
}
