/** What a gateway or provider process is told: plain data, so that it can cross to another process. */
import type { Quantization } from "../../exact/model/model.ts";
import type { PriceSheet } from "../../protocol/price.ts";
import type { BatchOptions } from "../../gateway/batches/index.ts";
import type { FileLimits } from "../../gateway/files/file-store.ts";
import type { CloudPrice } from "../../gateway/index.ts";
import type { RateLimitOptions } from "../../gateway/http/rate-limits.ts";
import type { ModelAccessOptions } from "../../gateway/requests/model-access.ts";

export interface GatewayConfig {
  readonly role: "gateway";
  readonly host: string;
  readonly port: number;
  readonly networkHost: string;
  readonly networkPort: number;
  readonly announce: readonly string[];
  readonly identityFile: string;
  /** Records that survive a restart. */
  readonly storeFile: string;
  /** Null: anybody may join (loopback, or `--open`). */
  readonly restrictJoin: { readonly token: string | null; readonly allow: readonly string[] } | null;
  readonly apiKeys: readonly string[];
  readonly allowedHosts: readonly string[] | null;
  readonly corsOrigins: readonly string[];
  readonly cloudPrice: CloudPrice | null;
  readonly limits: {
    readonly requestTimeoutMs: number;
    readonly firstTokenTimeoutMs: number;
    readonly tokenTimeoutMs: number;
    readonly queueTimeoutMs: number;
    readonly resumeGraceMs: number;
  };
  /** A provider of last resort; null: none. Its price is `cloudPrice`. */
  readonly cloud: CloudConfig | null;
  readonly files: FileLimits;
  readonly batches: BatchOptions;
  readonly modelAccess: ModelAccessOptions;
  readonly rateLimits: RateLimitOptions;
  /** How long receipts are kept; 0: not at all. */
  readonly receiptRetentionMs: number;
  /** Null: nothing is audited. */
  readonly audits: AuditConfig | null;
  /** Share of slots kept free for answers that lose their provider. */
  readonly headroom: number;
  /** Share of slots for batches beside requests that somebody waits for. */
  readonly batchBeside: number;
  /** Gateways of the same network to gossip with. */
  readonly join: readonly string[];
  readonly lan: boolean;
  /** Where it is, in the words of providers; empty: it does not say. */
  readonly region: string;
  readonly logLevel: string;
}

export interface AuditConfig {
  /** In any format. */
  readonly models: readonly string[];
  /** Where converted ones are kept. */
  readonly modelFolder: string;
  /** What answers of llama.cpp are weighed with; null: they are not. */
  readonly llama: AuditLlamaConfig | null;
  readonly retentionMs: number;
  /** 0: none. */
  readonly canaryIntervalMs: number;
  /** Empty: the usual ones. */
  readonly canaryPrompts: readonly string[];
}

export interface AuditLlamaConfig {
  readonly models: readonly string[];
  /** Holds `skein calibrate`'s records. */
  readonly home: string;
  readonly moduleFolder: string;
  readonly threads: number;
  readonly gpu: "auto" | false;
}

export interface CloudConfig {
  readonly url: string;
  readonly model: string;
  readonly apiKey: string | null;
  readonly contextTokens: number;
  readonly models: readonly string[];
  readonly price: PriceSheet;
  readonly dailyBudget: bigint;
  readonly budgetFile: string;
  readonly lineAbove: number | null;
  readonly ttftAboveMs: number | null;
}

export interface LlamaEngineConfig {
  readonly kind: "llama";
  readonly modelPath: string;
  readonly moduleFolder: string;
  readonly name: string | null;
  readonly contextTokens: number | null;
  readonly parallel: number;
  readonly threads: number;
  readonly gpu: "auto" | false;
}

export interface OpenAiEngineConfig {
  readonly kind: "openai";
  readonly url: string;
  readonly upstreamModel: string | null;
  /** Whether chats that were cut are gone on with by their text. */
  readonly resumeByText: boolean;
  readonly apiKey: string | null;
  readonly name: string | null;
  readonly contextTokens: number | null;
  readonly parallel: number;
}

export interface ExactEngineConfig {
  readonly kind: "exact";
  /** A converted model, or any that can be converted. */
  readonly modelPath: string;
  /** A smaller one with the same tokenizer, which guesses ahead; null: none. */
  readonly draftPath: string | null;
  /** Of what is converted. */
  readonly quantization?: Quantization;
  /** Where converted models are kept. */
  readonly cacheFolder: string;
  readonly name: string | null;
  readonly contextTokens: number | null;
  /** Null: as many as memory allows, up to the usual number. */
  readonly parallel: number | null;
  readonly threads: number;
}

export type EngineConfig = LlamaEngineConfig | OpenAiEngineConfig | ExactEngineConfig;

export interface ProviderConfig {
  readonly role: "provider";
  readonly identityFile: string;
  readonly identityCacheFolder: string;
  /** The provider's receipts, in order. */
  readonly receiptsFile: string;
  readonly join: readonly string[];
  readonly joinToken: string | null;
  readonly lan: boolean;
  readonly region: string;
  readonly price: PriceSheet;
  readonly engine: EngineConfig;
  /** How long answers may take to end when the provider is stopped. */
  readonly drainTimeoutMs: number;
  /** Fail when no gateway can be joined, instead of trying again. */
  readonly once: boolean;
  readonly logLevel: string;
}

/** What a process tells about itself. */
export type Report =
  /** A step of the start, for people. */
  | { readonly type: "progress"; readonly text: string }
  | {
      readonly type: "ready";
      readonly role: "gateway";
      readonly id: string;
      readonly url: string;
      readonly addresses: readonly string[];
    }
  | {
      readonly type: "ready";
      readonly role: "provider";
      readonly id: string;
      readonly model: string;
      readonly modelId: string;
      readonly backend: string;
    }
  | { readonly type: "joined"; readonly target: string; readonly gatewayId: string }
  | { readonly type: "lost"; readonly target: string; readonly message: string; readonly retryInMs: number }
  | { readonly type: "engine"; readonly state: "ready" | "restarting" | "failed"; readonly reason: string }
  | {
      readonly type: "failed";
      readonly code: string;
      readonly message: string;
      readonly hint: string | null;
    };

/** A running gateway or provider. */
export interface RunningRole {
  /** Takes no more work and lets what runs end, in bounded time. */
  drain?(): Promise<void>;
  close(): Promise<void>;
}
