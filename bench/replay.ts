/**
 * Replays recorded requests (`--trace FILE`; without it, a small trace made from the seed) over simulated providers that
 * leave and join: the real gateway and router against plain load balancing, over the same machines, in simulated time.
 *
 * FILE is Azure's LLM inference trace (CSV) or one of Mooncake's (JSONL), of which `--requests N` takes the first. `--scale` is how many times
 * as fast as recorded requests come (else so fast that machines are 60 % busy), `--churn` the percent of `--providers` that leave in
 * a minute (5), `--policy` one of router, leastLoaded, roundRobin, random (all; may be repeated).
 */
import { parseArgs } from "node:util";
import { machinesOf, type Policy, replay, type Replayed, scaleFor } from "./lib/replay.ts";
import { quantile } from "./lib/routing-load.ts";
import { syntheticTrace } from "./lib/synthetic-trace.ts";
import { cacheBound, readTrace, type TracedRequest } from "./lib/trace.ts";
import { seededRandom } from "../src/util/random.ts";

/** Of what all machines can do together, when `--scale` does not say how fast requests come. */
const defaultLoad = 0.6;
const policies: readonly Policy[] = ["router", "leastLoaded", "roundRobin", "random"];

const { values } = parseArgs({
  options: {
    trace: { type: "string" },
    scale: { type: "string" },
    providers: { type: "string" },
    churn: { type: "string", default: "5" },
    seed: { type: "string", default: "1" },
    requests: { type: "string" },
    policy: { type: "string", multiple: true },
    quick: { type: "boolean", default: false },
  },
});

function numberOf(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (Number.isFinite(value) && value >= min && value <= max) return value;
  throw new Error(`--${name} is a number from ${min} to ${max}, not "${text}".`);
}

const providers = numberOf("providers", values.providers ?? (values.quick ? "20" : "100"), 1, 20_000);
const seed = numberOf("seed", values.seed, 0, 2 ** 31);
const churn = numberOf("churn", values.churn, 0, 1_000);
const requests = numberOf("requests", values.requests ?? (values.quick ? "800" : "5000"), 10, 1_000_000);

function load(): TracedRequest[] {
  if (values.trace === undefined) return syntheticTrace(requests, seededRandom(seed));
  const whole = readTrace(values.trace);
  return values.requests === undefined && !values.quick ? whole : whole.slice(0, requests);
}

interface Summary {
  readonly successRate: number;
  readonly ttftMsP50: number;
  readonly ttftMsP99: number;
  readonly tpotMsP50: number;
  readonly tpotMsP99: number;
  readonly cacheHitRate: number;
  /** Share of all machines' time that went into attempts which another one overtook. */
  readonly duplicateWork: number;
}

/** The first tenth is everybody's learning: it counts for success, not for latencies. */
function summary(replayed: readonly Replayed[]): Omit<Summary, "duplicateWork"> {
  const learned = replayed.slice(Math.floor(replayed.length / 10)).filter(({ error }) => error === null);
  const ttftMs = learned.map((one) => one.ttftMs);
  const tpotMs = learned.flatMap((one) => one.tpotMs ?? []);
  const sum = (of: (one: Replayed) => number): number => learned.reduce((total, one) => total + of(one), 0);
  return {
    successRate: replayed.filter(({ error }) => error === null).length / replayed.length,
    ttftMsP50: quantile(ttftMs, 0.5),
    ttftMsP99: quantile(ttftMs, 0.99),
    tpotMsP50: quantile(tpotMs, 0.5),
    tpotMsP99: quantile(tpotMs, 0.99),
    cacheHitRate: sum((one) => one.cachedTokens) / sum((one) => one.promptTokens),
  };
}

const trace = load();
const machines = machinesOf({ providers, seed });
const scale =
  values.scale === undefined
    ? scaleFor(trace, machines, defaultLoad)
    : numberOf("scale", values.scale, 1e-3, 1e6);
const round = (value: number): number => Number(value.toPrecision(4));
const bound = cacheBound(trace);
const minutes = trace.at(-1)!.atMs / scale / 60_000;
console.log(
  `${trace.length} requests in ${round(minutes)} simulated minutes (${round(scale)} times as fast as recorded), ` +
    `${providers} providers, ${churn} % of them leave each minute, seed ${seed}; ` +
    `a single endless cache would hold ${(100 * bound).toFixed(1)} % of prompt tokens`,
);
const summaries = new Map<Policy, Summary>();
for (const policy of policies) {
  if (values.policy !== undefined && !values.policy.includes(policy)) continue;
  const startMs = performance.now();
  const spent = { allMs: 0, abandonedMs: 0 };
  const replayed = await replay(trace, policy, { providers, scale, churn, seed }, spent);
  const duplicateWork = spent.abandonedMs / spent.allMs;
  const seen = { ...summary(replayed), duplicateWork };
  summaries.set(policy, seen);
  console.log(
    `${policy.padEnd(12)} success ${(100 * seen.successRate).toFixed(2)} %, first token ${round(seen.ttftMsP50)} ms (p50), ` +
      `${round(seen.ttftMsP99)} ms (p99), per token ${round(seen.tpotMsP50)} ms (p50), ${round(seen.tpotMsP99)} ms (p99), ` +
      `${(100 * seen.cacheHitRate).toFixed(1)} % of prompt tokens cached, ${(100 * duplicateWork).toFixed(2)} % of the work twice; ${Math.round((performance.now() - startMs) / 1000)} s`,
  );
  const errors = new Map<string, number>();
  for (const { error } of replayed) if (error !== null) errors.set(error, (errors.get(error) ?? 0) + 1);
  for (const [error, count] of errors) console.log(`  ${count} × ${error}`);
}
const flat: Record<string, number> = {};
const ours = summaries.get("router");
for (const [policy, seen] of summaries) {
  for (const key of Object.keys(seen) as (keyof Summary)[]) {
    const name = `${policy}${key[0]!.toUpperCase()}${key.slice(1)}`;
    flat[name] = round(seen[key]);
    if (policy !== "router" && ours !== undefined && key.includes("Ms")) {
      flat[`${key}RatioTo${policy[0]!.toUpperCase()}${policy.slice(1)}`] = round(ours[key] / seen[key]);
    }
  }
}
console.log(
  JSON.stringify({
    requests: trace.length,
    providers,
    churnPercentPerMinute: churn,
    scale: round(scale),
    seed,
    simulatedMinutes: round(minutes),
    cacheHitRateBound: round(bound),
    runs: 1,
    ...flat,
    rival: "least loaded, round robin, random",
  }),
);
