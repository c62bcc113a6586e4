/** Every setting: its key in the file, its flag and environment variable, its type, default and meaning. */
import { type ZodType, z } from "zod";
import { usdToNano } from "../protocol/price.ts";
import { SkeinError } from "../util/errors.ts";

interface Kind<T> {
  /** What a value must look like, for people. */
  readonly expects: string;
  /** From JSON. */
  readonly json: ZodType<T>;
  /** From a flag or a variable. */
  readonly text: ZodType<T>;
}

const text: Kind<string> = { expects: "text", json: z.string(), text: z.string() };

function integer(min: number, max: number): Kind<number> {
  const json = z.int().min(min).max(max);
  const expects = `a whole number from ${min} to ${max}`;
  return { expects, json, text: z.string().regex(/^\d+$/).transform(Number).pipe(json) };
}

const boolean: Kind<boolean> = {
  expects: "true or false",
  json: z.boolean(),
  text: z.stringbool({ truthy: ["true", "1"], falsy: ["false", "0"] }),
};

function itemsOf(list: string): string[] {
  return list
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

const list: Kind<string[]> = {
  expects: "a list (comma-separated, or a JSON array of texts)",
  json: z.array(z.string()),
  text: z.string().transform(itemsOf),
};

const usdText = z.string().refine((value) => usdToNano(value) !== null);
const usd: Kind<string> = { expects: 'an amount of USD such as "0.15"', json: usdText, text: usdText };

/** Names that stand for others. */
const map: Kind<Readonly<Record<string, string>>> = {
  expects: "names and what they stand for (a=b,c=d, or a JSON object of texts)",
  json: z.record(z.string().min(1), z.string().min(1)),
  text: pairs((value) => value).pipe(z.record(z.string(), z.string())),
};

const lists: Kind<Readonly<Record<string, readonly string[]>>> = {
  expects: "names and their lists (a=b|c,d=e, or a JSON object of lists)",
  json: z.record(z.string().min(1), z.array(z.string())),
  text: pairs((value) => value.split("|").map((item) => item.trim())).pipe(
    z.record(z.string(), z.array(z.string())),
  ),
};

function pairs<T>(read: (value: string) => T) {
  return z.string().transform((given, context) => {
    const found: Record<string, T> = {};
    for (const item of itemsOf(given)) {
      const at = item.indexOf("=");
      if (at > 0 && at < item.length - 1) found[item.slice(0, at).trim()] = read(item.slice(at + 1).trim());
      else context.addIssue({ code: "custom", message: item });
    }
    return found;
  });
}

function oneOf<const T extends string>(...values: T[]): Kind<T> {
  const schema = z.enum(values);
  return { expects: `one of ${values.join(", ")}`, json: schema, text: schema };
}

interface Setting<T> {
  readonly kind: Kind<T>;
  readonly default: T | null;
  readonly about: string;
  readonly secret?: boolean;
}

function setting<T>(kind: Kind<T>, fallback: T | null, about: string, secret = false): Setting<T> {
  return { kind, default: fallback, about, secret };
}

const timeout: Kind<number> = integer(100, 24 * 3600_000);

export const settings = {
  // Programs that talk to a gateway
  gateway: setting(
    text,
    "http://127.0.0.1:4141",
    "gateway that chat, models, providers, quote and doctor ask",
  ),
  apiKey: setting(text, null, "API key for that gateway", true),
  // The gateway
  host: setting(text, "127.0.0.1", "address the gateway listens on; --listen opens it beyond this machine"),
  port: setting(integer(0, 65_535), 4141, "port for HTTP; 0 picks a free one"),
  networkPort: setting(integer(0, 65_535), 4142, "port for providers; 0 picks a free one"),
  announce: setting(list, [], "addresses to tell providers (multiaddrs), behind a port forwarding"),
  joinToken: setting(text, null, "secret that providers must know to join", true),
  allowProviders: setting(list, [], "ids of providers that may join without the token"),
  open: setting(boolean, false, "whether any provider may join a gateway that listens beyond loopback"),
  apiKeys: setting(list, [], "keys of which clients must present one", true),
  allowedHosts: setting(list, [], "names, besides loopback ones, that the gateway answers to"),
  corsOrigins: setting(list, [], "web origins whose pages may call the gateway"),
  cloudPriceName: setting(text, "gpt-4o-mini", "cloud model that fees are compared with; empty: none"),
  cloudPriceInput: setting(usd, "0.15", "its price in USD per million input tokens"),
  cloudPriceOutput: setting(usd, "0.60", "its price in USD per million output tokens"),
  cloudUrl: setting(text, null, "OpenAI-compatible cloud as provider of last resort: its base URL"),
  cloudKey: setting(text, null, "API key for it", true),
  cloudModel: setting(text, null, "its model"),
  cloudFor: setting(list, [], "names of models here that it may stand in for"),
  cloudContext: setting(integer(16, 10_000_000), 8_192, "tokens of prompt and answer that it takes"),
  cloudDailyBudget: setting(usd, "0", "USD that it may cost per day (UTC), at its price above"),
  cloudLineAbove: setting(
    integer(0, 1_000),
    null,
    "use it when more requests wait; default: when all else failed",
  ),
  cloudTtftAboveMs: setting(
    integer(1, 600_000),
    null,
    "use it when the first token is predicted later than this",
  ),
  requestTimeoutMs: setting(timeout, 600_000, "longest request, in milliseconds"),
  firstTokenTimeoutMs: setting(timeout, 60_000, "longest wait for a provider's first token"),
  tokenTimeoutMs: setting(timeout, 30_000, "longest wait between two tokens"),
  queueTimeoutMs: setting(timeout, 15_000, "longest wait while all providers are busy"),
  resumeGraceMs: setting(
    timeout,
    30_000,
    "how long an answer goes on without its client, if that asked for it",
  ),
  aliases: setting(map, {}, "other names for models of the network, such as gpt-4o-mini=tiny"),
  keyModels: setting(lists, {}, "models that an API key may use; keys that are not named: all", true),
  keyRequestsPerMinute: setting(
    integer(1, 1_000_000),
    null,
    "requests that an API key may make; default: any",
  ),
  keyTokensPerMinute: setting(
    integer(1, 1_000_000_000),
    null,
    "tokens of prompts and answers that an API key may use; default: any",
  ),
  fileMegabytesMax: setting(integer(1, 1_000_000), 512, "largest file that clients may keep at the gateway"),
  storageMegabytesMax: setting(integer(1, 100_000_000), 4_096, "all files of one API key"),
  retentionDays: setting(
    integer(1, 3_650),
    30,
    "how long files, batches and stored answers are kept that do not say so themselves",
  ),
  batchPricePercent: setting(integer(0, 100), 50, "what lines of batches cost, in percent of the price"),
  batchParallelMax: setting(integer(1, 100_000), 512, "lines of batches asked at the same time"),
  receiptHours: setting(
    integer(0, 8_760),
    24,
    "hours that receipts are kept for whoever asked, with prompt and answer; 0: not at all",
  ),
  batchBesidePercent: setting(
    integer(0, 100),
    100,
    "percent of a provider's slots that batches may use at most beside requests that somebody waits for",
  ),
  trust: setting(
    text,
    null,
    "how answers must be trusted where a request does not say it: receipt, exact, audit:5%, or replicated:2",
  ),
  keyTrust: setting(map, {}, "the same for single API keys", true),
  audit: setting(boolean, true, "whether the gateway computes some exact answers again, to check them"),
  auditModel: setting(list, [], "models to check answers with, beside those that were converted here"),
  auditLlama: setting(
    list,
    [],
    "GGUF models to weigh answers of llama.cpp with, each calibrated on this machine (skein calibrate)",
  ),
  auditDays: setting(
    integer(1, 3_650),
    30,
    "days that verdicts are kept, and answers that were proved wrong",
  ),
  canarySeconds: setting(
    integer(0, 86_400),
    0,
    "seconds between the gateway's own requests, on average, that it audits; 0: none",
  ),
  canaryPrompts: setting(list, [], "what it asks then; default: a few everyday questions"),
  headroomPercent: setting(
    integer(0, 90),
    0,
    "percent of each provider's slots kept free for answers that lose their provider",
  ),
  // The provider
  join: setting(list, ["http://127.0.0.1:4141"], "gateways to serve: URL, host:port or multiaddr"),
  lan: setting(boolean, false, "whether to find gateways on the local network (mDNS)"),
  region: setting(
    text,
    "",
    "where this machine is, for example eu-west: a provider declares it, a gateway compares it with what it measures",
  ),
  priceInput: setting(usd, "0", "USD per million input tokens"),
  priceOutput: setting(usd, "0", "USD per million output tokens"),
  priceSecond: setting(usd, "0", "USD per second of engine time"),
  parallel: setting(integer(1, 256), 4, "requests generated at the same time"),
  context: setting(
    integer(16, 10_000_000),
    null,
    "tokens of prompt and answer together; default: the model's, up to 8192",
  ),
  threads: setting(integer(1, 1024), null, "CPU threads per model; default: one core is left free"),
  gpu: setting(oneOf("auto", "off"), "auto", "whether to use a GPU backend that is installed"),
  // Shorter than what supervisors commonly wait before they kill (Docker: 10 s).
  drainTimeoutMs: setting(
    integer(0, 3600_000),
    8_000,
    "longest wait for running answers when a provider is stopped; then others continue them",
  ),
  upstreamKey: setting(text, null, "API key for the server behind --engine openai", true),
  // Everything
  logLevel: setting(
    oneOf("debug", "info", "warn", "error", "silent"),
    "warn",
    "how much is logged to stderr",
  ),
} as const;

export type SettingKey = keyof typeof settings;
export type Settings = {
  readonly [K in SettingKey]: (typeof settings)[K] extends Setting<infer T>
    ? K extends NullableKey
      ? T | null
      : T
    : never;
};
type NullableKey =
  | "cloudUrl"
  | "trust"
  | "cloudKey"
  | "cloudModel"
  | "cloudLineAbove"
  | "cloudTtftAboveMs"
  | "apiKey"
  | "joinToken"
  | "context"
  | "threads"
  | "upstreamKey";

export type Source = "flag" | "environment" | "file" | "default";
export interface Resolved {
  readonly values: Settings;
  readonly sources: Readonly<Record<SettingKey, Source>>;
}

/** `networkPort` is `SKEIN_NETWORK_PORT` in the environment. */
export function variableOf(key: string): string {
  return `SKEIN_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** `networkPort` is `--network-port` on the command line. */
export function flagOf(key: string): string {
  return `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/**
 * Flags before environment before file before defaults.
 *
 * @throws SkeinError `invalid_config` that names the key, where its value came from, and what is expected
 */
export function resolveSettings(given: {
  flags: Readonly<Record<string, unknown>>;
  environment: Readonly<Record<string, string | undefined>>;
  file: { readonly path: string; readonly content: Readonly<Record<string, unknown>> };
}): Resolved {
  const unknown = Object.keys(given.file.content).find((key) => !Object.hasOwn(settings, key));
  if (unknown !== undefined) {
    throw new SkeinError("invalid_config", `${given.file.path}: there is no setting '${unknown}'.`, {
      hint: `Did you mean '${nearest(unknown)}'? \`skein config\` lists all settings.`,
    });
  }
  const values: Record<string, unknown> = {};
  const sources: Record<string, Source> = {};
  for (const key of Object.keys(settings) as SettingKey[]) {
    const [value, source] = resolveOne(key, given);
    values[key] = value;
    sources[key] = source;
  }
  return { values: values as unknown as Settings, sources: sources as Resolved["sources"] };
}

function resolveOne(key: SettingKey, given: Parameters<typeof resolveSettings>[0]): [unknown, Source] {
  const { kind, default: fallback } = settings[key] as Setting<unknown>;
  const flag = given.flags[key];
  if (flag !== undefined) {
    const schema = typeof flag === "string" ? kind.text : kind.json;
    return [valid(schema, flag, kind, `${flagOf(key)} is ${show(key, flag)}`), "flag"];
  }
  const variable = given.environment[variableOf(key)];
  if (variable !== undefined && variable !== "") {
    return [valid(kind.text, variable, kind, `${variableOf(key)} is ${show(key, variable)}`), "environment"];
  }
  const json = given.file.content[key];
  if (json !== undefined && json !== null) {
    return [valid(kind.json, json, kind, `${given.file.path}: '${key}' is ${show(key, json)}`), "file"];
  }
  return [fallback, "default"];
}

/** @throws SkeinError `invalid_config`: what it is, and what it must be */
function valid(schema: ZodType, value: unknown, kind: Kind<unknown>, what: string): unknown {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new SkeinError("invalid_config", `${what}, but must be ${kind.expects}.`);
}

/** A value for an error or a table; secrets are never shown. */
export function show(key: SettingKey, value: unknown): string {
  if (value === null || (typeof value === "object" && Object.keys(value).length === 0)) return "–";
  if ((settings[key] as Setting<unknown>).secret) return "••••";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The known key with the smallest edit distance. */
function nearest(word: string): string {
  const keys = Object.keys(settings);
  return keys.toSorted((a, b) => editDistance(a, word) - editDistance(b, word))[0]!;
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1]!.toLowerCase() === b[j - 1]!.toLowerCase() ? 0 : 1);
      next.push(Math.min(substitution, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
