/**
 * How much each API key may ask in a minute, where the operator says so: requests, and tokens of prompts and answers. Both
 * are buckets that fill steadily and hold a minute's worth; a request takes its place at once, its tokens when the answer has ended.
 */
import type { Context, Next } from "hono";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";

export interface RateLimitOptions {
  /** Null: no limit. */
  readonly requestsPerMinute: number | null;
  /** Null: no limit. */
  readonly tokensPerMinute: number | null;
}

/** What costs tokens. Lines of batches do not count: they wait for everybody anyway. */
const limitedPaths: ReadonlySet<string> = new Set([
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/embeddings",
  "/v1/responses",
  "/v1/messages",
]);
const minuteMs = 60_000;

type Unit = "requests" | "tokens";

/** One key's share of one limit. More may be taken than there is: then the key waits until it is filled up again. */
class Bucket {
  readonly limit: number;
  #amount: number;
  #atMs: number;

  constructor(limit: number, nowMs: number) {
    this.limit = limit;
    this.#amount = limit;
    this.#atMs = nowMs;
  }

  amount(nowMs: number): number {
    const gained = ((nowMs - this.#atMs) / minuteMs) * this.limit;
    this.#amount = Math.min(this.limit, this.#amount + gained);
    this.#atMs = nowMs;
    return this.#amount;
  }

  take(amount: number, nowMs: number): void {
    this.#amount = this.amount(nowMs) - amount;
  }

  /** Until `amount` is there. */
  waitMs(amount: number, nowMs: number): number {
    return Math.max(0, ((amount - this.amount(nowMs)) / this.limit) * minuteMs);
  }
}

export class RateLimits {
  readonly #clock: Clock;
  readonly #limits: readonly (readonly [Unit, number])[];
  /** One entry for each API key that has asked: operators name them all. */
  readonly #buckets = new Map<string, ReadonlyMap<Unit, Bucket>>();

  constructor(clock: Clock, { requestsPerMinute, tokensPerMinute }: RateLimitOptions) {
    this.#clock = clock;
    const limits = [["requests", requestsPerMinute] as const, ["tokens", tokensPerMinute] as const];
    this.#limits = limits.flatMap(([unit, limit]) => (limit === null ? [] : [[unit, limit] as const]));
  }

  /** A request's place, and the headers that say what is left. Absent where nothing is limited. */
  middleware(ownerOf: (c: Context) => string) {
    return async (c: Context, next: Next): Promise<void> => {
      if (this.#limits.length === 0 || c.req.method !== "POST" || !limitedPaths.has(c.req.path))
        return next();
      const owner = ownerOf(c);
      try {
        this.#admit(owner);
        await next();
      } finally {
        for (const [name, value] of this.#headers(owner)) c.header(name, value);
      }
    };
  }

  /** An answer has ended. */
  consumed(owner: string, tokens: number): void {
    this.#of(owner).get("tokens")?.take(tokens, this.#clock.monotonicMs());
  }

  /** @throws SkeinError `rate_limit_exceeded` */
  #admit(owner: string): void {
    const nowMs = this.#clock.monotonicMs();
    const buckets = this.#of(owner);
    for (const [unit, bucket] of buckets) {
      const waitMs = bucket.waitMs(1, nowMs);
      if (waitMs > 0) throw exceeded(unit, bucket.limit, waitMs);
    }
    buckets.get("requests")?.take(1, nowMs);
  }

  #headers(owner: string): [string, string][] {
    const nowMs = this.#clock.monotonicMs();
    return [...this.#of(owner)].flatMap(([unit, bucket]): [string, string][] => [
      [`x-ratelimit-limit-${unit}`, String(bucket.limit)],
      [`x-ratelimit-remaining-${unit}`, String(Math.max(0, Math.floor(bucket.amount(nowMs))))],
      [`x-ratelimit-reset-${unit}`, durationText(bucket.waitMs(bucket.limit, nowMs))],
    ]);
  }

  #of(owner: string): ReadonlyMap<Unit, Bucket> {
    let buckets = this.#buckets.get(owner);
    if (buckets === undefined) {
      const nowMs = this.#clock.monotonicMs();
      buckets = new Map(this.#limits.map(([unit, limit]) => [unit, new Bucket(limit, nowMs)]));
      this.#buckets.set(owner, buckets);
    }
    return buckets;
  }
}

export const rateLimitHeaders: readonly string[] = ["limit", "remaining", "reset"].flatMap((what) => [
  `x-ratelimit-${what}-requests`,
  `x-ratelimit-${what}-tokens`,
]);

/** As OpenAI writes them: `6m0s`, `1s`, `20ms`. */
export function durationText(ms: number): string {
  const whole = Math.ceil(ms);
  if (whole < 1_000) return `${whole}ms`;
  const seconds = Math.ceil(whole / 1_000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}

function exceeded(unit: Unit, limit: number, waitMs: number): SkeinError {
  const retryAfterSeconds = Math.max(1, Math.ceil(waitMs / 1_000));
  return new SkeinError("rate_limit_exceeded", `This API key may use ${limit} ${unit} per minute.`, {
    hint: `Try again in ${retryAfterSeconds} s.`,
    retryAfterSeconds,
  });
}
