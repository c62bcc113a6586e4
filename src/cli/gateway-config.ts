import { isIP } from "node:net";
import { join } from "node:path";
import { usdToNano } from "../protocol/price.ts";
import { SkeinError } from "../util/errors.ts";
import type { Context } from "./context.ts";
import { loadOrCreateSecret } from "./home.ts";
import type { GatewayConfig } from "./processes/config.ts";
import { logLevelOf } from "./provider-config.ts";

export interface GatewaySecrets {
  /** What providers and clients must know; null: nothing. */
  readonly joinToken: string | null;
  readonly apiKey: string | null;
}

const loopback = /^(127\.|localhost$|::1$)/;

/**
 * A gateway's configuration. Beyond loopback nobody gets in by accident: clients need an API key, providers
 * the join token (or a place on the list), and both are made here when none is configured.
 */
export function gatewayConfigOf(context: Context): { config: GatewayConfig; secrets: GatewaySecrets } {
  const { settings, flags, home } = context;
  const host = hostOf(settings.host, flags["listen"]);
  const isPublic = !loopback.test(host);
  const secrets = isPublic
    ? publicSecrets(context)
    : { joinToken: settings.joinToken, apiKey: settings.apiKeys[0] ?? null };
  const isRestricted = secrets.joinToken !== null || settings.allowProviders.length > 0;
  const config: GatewayConfig = {
    role: "gateway",
    host: host === "localhost" ? "127.0.0.1" : host,
    port: settings.port,
    networkHost: isPublic ? host : "127.0.0.1",
    networkPort: settings.networkPort,
    announce: settings.announce,
    identityFile: join(home, "gateway.key"),
    restrictJoin: isRestricted ? { token: secrets.joinToken, allow: settings.allowProviders } : null,
    apiKeys: settings.apiKeys.length > 0 ? settings.apiKeys : secrets.apiKey === null ? [] : [secrets.apiKey],
    // Behind an API key a foreign page can do no harm, and the names people use are not known here.
    allowedHosts: isPublic ? null : settings.allowedHosts,
    corsOrigins: settings.corsOrigins,
    cloudPrice: cloudPriceOf(context),
    limits: {
      requestTimeoutMs: settings.requestTimeoutMs,
      firstTokenTimeoutMs: settings.firstTokenTimeoutMs,
      tokenTimeoutMs: settings.tokenTimeoutMs,
      queueTimeoutMs: settings.queueTimeoutMs,
    },
    // The default of `join` is a provider's: this gateway itself.
    join: context.resolved.sources.join === "default" ? [] : settings.join,
    lan: settings.lan,
    logLevel: logLevelOf(context),
  };
  return { config, secrets };
}

function hostOf(configured: string, listen: unknown): string {
  if (listen === true) return "0.0.0.0";
  if (typeof listen !== "string") return configured;
  const host = listen;
  if (isIP(host) !== 0 || host === "localhost") return host;
  throw new SkeinError("invalid_config", `--listen ${host} is not an address of this machine.`, {
    hint: "Give an IP address, and the ports with --port and --network-port.",
  });
}

function publicSecrets({ settings, home }: Context): GatewaySecrets {
  const needsToken = !settings.open && settings.allowProviders.length === 0;
  return {
    joinToken:
      settings.joinToken ??
      (needsToken ? loadOrCreateSecret(join(home, "join.token"), "skein-join-").secret : null),
    apiKey: settings.apiKeys[0] ?? loadOrCreateSecret(join(home, "api.key"), "sk-skein-").secret,
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
