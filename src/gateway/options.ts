import type { RoutingPolicy } from "../router/policy.ts";
import type { Store } from "../store/port.ts";
import type { Clock } from "../util/clock.ts";
import type { Logger } from "../util/log.ts";
import type { AuditOptions } from "./audits/options.ts";
import type { BatchOptions } from "./batches/index.ts";
import type { CloudOptions } from "./search/cloud.ts";
import type { FileLimits } from "./files/file-store.ts";
import type { RateLimitOptions } from "./http/rate-limits.ts";
import type { ModelAccessOptions } from "./requests/model-access.ts";
import type { ReceiptOptions } from "./attempts/receipts.ts";
import type { Random } from "../util/random.ts";

export interface CloudPrice {
  readonly name: string;
  /** nanoUSD per million tokens. */
  readonly inputPerMillionTokens: bigint;
  readonly outputPerMillionTokens: bigint;
}

export interface GatewayDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** What outlives the process. Whoever opened it sweeps and closes it. */
  readonly store: Store;
}

export interface GatewayLimits {
  /** One whole request, from its arrival to its last byte. */
  readonly requestTimeoutMs: number;
  /** From opening an attempt to its first token: queue and prefill at the provider. */
  readonly firstTokenTimeoutMs: number;
  /** Between two tokens. */
  readonly tokenTimeoutMs: number;
  /** How long a request waits while every provider of its model is full. */
  readonly queueTimeoutMs: number;
  /** How long an answer whose client may come back is generated without it. */
  readonly resumeGraceMs: number;
}

export const defaultLimits: GatewayLimits = {
  requestTimeoutMs: 10 * 60_000,
  firstTokenTimeoutMs: 60_000,
  tokenTimeoutMs: 30_000,
  queueTimeoutMs: 15_000,
  resumeGraceMs: 30_000,
};

export interface GatewayOptions {
  readonly gatewayId: string;
  readonly version: string;
  /** Addresses for providers, each ending in the gateway's id. */
  readonly joinAddresses: () => readonly string[];
  readonly join: "open" | "restricted";
  /** Clients must present one of these; empty: no key is needed. */
  readonly apiKeys: readonly string[];
  /** What providers join with: it also shows them the list of providers, where they find why they get no work. Absent: nothing. */
  readonly joinToken?: string | null;
  /** Host names besides loopback ones that requests may be addressed to; null: any (with API keys). */
  readonly allowedHosts: readonly string[] | null;
  /** Web origins whose pages may call. */
  readonly corsOrigins: readonly string[];
  /** For comparison in fees; null: none. */
  readonly cloudPrice: CloudPrice | null;
  readonly limits: GatewayLimits;
  readonly policy: RoutingPolicy;
  /** Where the gateway is, in the words of providers' regions; absent or empty: it does not say. */
  readonly region?: string;
  /** A provider of last resort; null: none. */
  readonly cloud: CloudOptions | null;
  /** Absent: `defaultFileLimits`. */
  readonly files?: FileLimits;
  /** Absent: `defaultBatchOptions`. */
  readonly batches?: BatchOptions;
  /** What model names mean here, and who may use which; absent: everybody all. */
  readonly modelAccess?: ModelAccessOptions;
  /** For each API key; absent: none. */
  readonly rateLimits?: RateLimitOptions;
  /** Absent: providers are not asked for receipts. */
  readonly receipts?: ReceiptOptions;
  /** Absent: nothing is audited. */
  readonly audits?: AuditOptions;
}

/** A request body: the longest contexts fit many times. */
export const requestBodyBytesMax: number = 8 * 1024 * 1024;
/** Choices of one request (`n` times prompts). */
export const choicesMax = 1_024;
/** From sending a request to its `start`: the provider's queue. Elsewhere, or here later, it is served sooner. */
export const startTimeoutMs = 30_000;
/** A client that reads nothing for this long is gone. */
export const clientStallMs = 60_000;
