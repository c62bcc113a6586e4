import { join, resolve } from "node:path";
import { defaultBatchOptions } from "../gateway/batches/index.ts";
import { trustExpected, trustSchema } from "../gateway/requests/parse-hints.ts";
import { usdToNano } from "../protocol/price.ts";
import { SkeinError } from "../util/errors.ts";
import type { TrustWish } from "../router/hints.ts";
import type { Context } from "./context.ts";
import { requireLlamaEngine } from "./engine-install.ts";
import { loadOrCreateSecret } from "./home.ts";
import { isLoopback, parseListenAddress } from "./listen-address.ts";
import type { GatewayConfig } from "./processes/config.ts";
import { exactCacheFolder, logLevelOf, threadsOf } from "./provider-config.ts";

const megabyte = 1024 * 1024;
const dayMs = 24 * 3600_000;

export interface GatewaySecret {
  readonly text: string;
  /** Where it is kept, readable by its owner only; null: it was configured. */
  readonly file: string | null;
  readonly isNew: boolean;
}

/** What providers and clients must know; null: nothing. */
export interface GatewaySecrets {
  readonly joinToken: GatewaySecret | null;
  readonly apiKey: GatewaySecret | null;
}

/**
 * A gateway's configuration. Beyond loopback nobody gets in by accident: clients need an API key, providers
 * the join token (or a place on the list), and both are made here when none is configured.
 */
export function gatewayConfigOf(context: Context): { config: GatewayConfig; secrets: GatewaySecrets } {
  const { settings, home } = context;
  const { host, port } = listenAddressOf(context);
  const isPublic = !isLoopback(host);
  const secrets = secretsOf(context, isPublic);
  const isRestricted = secrets.joinToken !== null || settings.allowProviders.length > 0;
  const config: GatewayConfig = {
    role: "gateway",
    host,
    port,
    networkHost: isPublic ? host : "127.0.0.1",
    networkPort: settings.networkPort,
    announce: settings.announce,
    identityFile: join(home, "gateway.key"),
    storeFile: join(home, "gateway.db"),
    restrictJoin: isRestricted
      ? { token: secrets.joinToken?.text ?? null, allow: settings.allowProviders }
      : null,
    apiKeys:
      settings.apiKeys.length > 0 ? settings.apiKeys : secrets.apiKey === null ? [] : [secrets.apiKey.text],
    // Behind an API key a foreign page can do no harm, and the names people use are not known here.
    allowedHosts: isPublic ? null : settings.allowedHosts,
    corsOrigins: settings.corsOrigins,
    cloudPrice: cloudPriceOf(context),
    limits: {
      requestTimeoutMs: settings.requestTimeoutMs,
      firstTokenTimeoutMs: settings.firstTokenTimeoutMs,
      tokenTimeoutMs: settings.tokenTimeoutMs,
      queueTimeoutMs: settings.queueTimeoutMs,
      resumeGraceMs: settings.resumeGraceMs,
    },
    cloud: cloudOf(context),
    receiptRetentionMs: settings.receiptHours * 3600_000,
    audits: auditsOf(context),
    headroom: settings.headroomPercent / 100,
    batchBeside: settings.batchBesidePercent / 100,
    files: {
      fileBytesMax: settings.fileMegabytesMax * megabyte,
      ownerBytesMax: settings.storageMegabytesMax * megabyte,
      retentionMs: settings.retentionDays * dayMs,
    },
    batches: {
      ...defaultBatchOptions,
      pricePercent: settings.batchPricePercent,
      parallelMax: settings.batchParallelMax,
    },
    modelAccess: modelAccessOf(context),
    rateLimits: {
      requestsPerMinute: settings.keyRequestsPerMinute,
      tokensPerMinute: settings.keyTokensPerMinute,
    },
    // The default of `join` is a provider's: this gateway itself.
    join: context.resolved.sources.join === "default" ? [] : settings.join,
    lan: settings.lan,
    region: settings.region,
    logLevel: logLevelOf(context),
  };
  return { config, secrets };
}

function auditsOf({ settings, home }: Context): GatewayConfig["audits"] {
  if (!settings.audit) return null;
  return {
    models: settings.auditModel.map((path) => resolve(path)),
    modelFolder: exactCacheFolder(home),
    llama:
      settings.auditLlama.length === 0
        ? null
        : {
            models: settings.auditLlama.map((path) => resolve(path)),
            home,
            moduleFolder: requireLlamaEngine(home),
            threads: threadsOf(settings.threads),
            gpu: settings.gpu === "auto" ? "auto" : false,
          },
    retentionMs: settings.auditDays * dayMs,
    canaryIntervalMs: settings.canarySeconds * 1000,
    canaryPrompts: settings.canaryPrompts,
  };
}

/** @throws SkeinError `invalid_config` */
function modelAccessOf({ settings }: Context): GatewayConfig["modelAccess"] {
  const { aliases, keyModels, trust, keyTrust } = settings;
  const ofKeys = Object.entries(keyTrust).map(([key, name]) => [key, trustOf(name, "keyTrust")] as const);
  return {
    aliases,
    keyModels,
    trust: trust === null ? null : trustOf(trust, "trust"),
    keyTrust: Object.fromEntries(ofKeys),
  };
}

/** @throws SkeinError `invalid_config` */
function trustOf(name: string, setting: string): TrustWish {
  const result = trustSchema.safeParse(name);
  if (result.success) return result.data;
  throw new SkeinError("invalid_config", `'${setting}' is '${name}', but must be ${trustExpected}.`);
}

/** @throws SkeinError `invalid_config` */
function listenAddressOf({ settings, flags, resolved }: Context): { host: string; port: number } {
  const { listen } = flags;
  if (listen === true) return { host: "0.0.0.0", port: settings.port };
  if (typeof listen !== "string")
    return { host: parseListenAddress(settings.host, "The setting 'host'").host, port: settings.port };
  const { host, port } = parseListenAddress(listen, "--listen");
  if (port === null) return { host, port: settings.port };
  if (resolved.sources.port === "flag" && settings.port !== port) {
    throw new SkeinError("invalid_config", `--listen says port ${port}, --port says ${settings.port}.`, {
      hint: "Give the port once.",
    });
  }
  return { host, port };
}

function secretsOf({ settings, home }: Context, isPublic: boolean): GatewaySecrets {
  const needsToken = isPublic && !settings.open && settings.allowProviders.length === 0;
  return {
    joinToken: secretOf(settings.joinToken, needsToken ? join(home, "join.token") : null, "skein-join-"),
    apiKey: secretOf(settings.apiKeys[0] ?? null, isPublic ? join(home, "api.key") : null, "sk-skein-"),
  };
}

/** @param file where it is kept when none is configured; null: none is needed */
function secretOf(configured: string | null, file: string | null, prefix: string): GatewaySecret | null {
  if (configured !== null) return { text: configured, file: null, isNew: false };
  if (file === null) return null;
  const { secret, isNew } = loadOrCreateSecret(file, prefix);
  return { text: secret, file, isNew };
}

/** @throws SkeinError `invalid_config` when it is configured by half */
function cloudOf({ settings, home }: Context): GatewayConfig["cloud"] {
  const { cloudUrl: url, cloudModel: model, cloudFor: models } = settings;
  if (url === null) return null;
  const dailyBudget = usdToNano(settings.cloudDailyBudget)!;
  if (model === null || models.length === 0 || dailyBudget === 0n) {
    throw new SkeinError("invalid_config", "The cloud of last resort is configured by half.", {
      hint: "Beside cloudUrl set cloudModel, cloudFor and cloudDailyBudget.",
    });
  }
  return {
    url,
    model,
    apiKey: settings.cloudKey,
    contextTokens: settings.cloudContext,
    models,
    price: {
      inputPerMillionTokens: usdToNano(settings.cloudPriceInput)!,
      outputPerMillionTokens: usdToNano(settings.cloudPriceOutput)!,
      perSecond: 0n,
    },
    dailyBudget,
    budgetFile: join(home, "cloud-budget.json"),
    lineAbove: settings.cloudLineAbove,
    ttftAboveMs: settings.cloudTtftAboveMs,
  };
}

function cloudPriceOf({ settings }: Context): GatewayConfig["cloudPrice"] {
  if (settings.cloudPriceName === "") return null;
  return {
    name: settings.cloudPriceName,
    inputPerMillionTokens: usdToNano(settings.cloudPriceInput)!,
    outputPerMillionTokens: usdToNano(settings.cloudPriceOutput)!,
  };
}
