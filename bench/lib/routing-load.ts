/** Providers of different speed under a synthetic load, in simulated time, and who chooses among them. */
import { freePriceSheet } from "../../src/protocol/price.ts";
import { Pace } from "../../src/router/pace.ts";
import { planAttempts, typicalRequest } from "../../src/router/plan.ts";
import { defaultPolicy } from "../../src/router/policy.ts";
import type { Candidate } from "../../src/router/predict.ts";
import type { Random } from "../../src/util/random.ts";

export type Policy = "router" | "random" | "roundRobin" | "leastLoaded";

/** The truth about a provider, which no policy sees. */
interface Machine {
  readonly id: string;
  readonly slots: number;
  readonly roundTripMs: number;
  readonly prefillMsPerToken: number;
  readonly tpotMs: number;
  /** When each slot becomes free. */
  readonly freeAtMs: number[];
  readonly pace: Pace;
  /** When each answer that was sent there ends. */
  endsMs: number[];
}

const machinesCount = 60;
/** Of what all machines can do together. */
const utilization = 0.7;
const outputTokensMean = 120;

/** Times to first token and to the end, in the order of requests. */
export function simulate(
  policy: Policy,
  requests: number,
  random: Random,
): { ttftMs: number[]; totalMs: number[] } {
  const machines = Array.from({ length: machinesCount }, (_, i) => anyMachine(`p${i}`, random));
  const perMs = machines.reduce((sum, machine) => sum + machine.slots / answerMs(machine, 500, 120), 0);
  const ttftMs: number[] = [];
  const totalMs: number[] = [];
  let nowMs = 0;
  for (let i = 0; i < requests; i++) {
    nowMs += -Math.log(1 - random.next()) / (perMs * utilization);
    const promptTokens = Math.ceil(-Math.log(1 - random.next()) * 500);
    const outputTokens = Math.ceil(-Math.log(1 - random.next()) * outputTokensMean);
    for (const machine of machines) machine.endsMs = machine.endsMs.filter((endMs) => endMs > nowMs);
    const machine = choose(policy, machines, i, promptTokens, random);
    const firstMs = serve(machine, nowMs, promptTokens, outputTokens, random);
    ttftMs.push(firstMs);
    totalMs.push(firstMs + outputTokens * machine.tpotMs);
  }
  // The first tenth is everybody's learning.
  return { ttftMs: ttftMs.slice(requests / 10), totalMs: totalMs.slice(requests / 10) };
}

function anyMachine(id: string, random: Random): Machine {
  const slots = 1 + Math.floor(random.next() * 4);
  const speed = 1 + 9 * random.next() ** 2;
  return {
    id,
    slots,
    roundTripMs: 2 + 200 * random.next() ** 2,
    prefillMsPerToken: 0.1 * speed,
    tpotMs: 8 * speed,
    freeAtMs: Array.from({ length: slots }, () => 0),
    pace: new Pace(),
    endsMs: [],
  };
}

function answerMs(machine: Machine, promptTokens: number, outputTokens: number): number {
  return promptTokens * machine.prefillMsPerToken + outputTokens * machine.tpotMs;
}

function serve(
  machine: Machine,
  nowMs: number,
  promptTokens: number,
  outputTokens: number,
  random: Random,
): number {
  const noise = 0.8 + 0.4 * random.next();
  const slot = machine.freeAtMs.indexOf(Math.min(...machine.freeAtMs));
  const startMs = Math.max(nowMs, machine.freeAtMs[slot]!);
  const prefillMs = noise * promptTokens * machine.prefillMsPerToken;
  const decodeMs = outputTokens * machine.tpotMs;
  machine.freeAtMs[slot] = startMs + prefillMs + decodeMs;
  machine.endsMs.push(startMs + prefillMs + decodeMs);
  machine.pace.learn({
    ttftMs: prefillMs,
    answerMs: prefillMs + decodeMs,
    outputTokens,
    prefillTokens: promptTokens,
  });
  return machine.roundTripMs + startMs - nowMs + prefillMs;
}

function choose(
  policy: Policy,
  machines: readonly Machine[],
  turn: number,
  promptTokens: number,
  random: Random,
): Machine {
  if (policy === "random") return machines[Math.floor(random.next() * machines.length)]!;
  if (policy === "roundRobin") return machines[turn % machines.length]!;
  const leastLoaded = machines.reduce((a, b) =>
    b.endsMs.length / b.slots < a.endsMs.length / a.slots ? b : a,
  );
  if (policy === "leastLoaded") return leastLoaded;
  const request = { ...typicalRequest, promptTokens };
  const { attempts } = planAttempts(machines.map(candidateOf), request, random);
  // Nobody has room: the rivals queue at providers, too.
  const id = attempts[0]?.candidate.providerId;
  return machines.find((machine) => machine.id === id) ?? leastLoaded;
}

function candidateOf({ id, slots, roundTripMs, pace, endsMs }: Machine): Candidate {
  return {
    providerId: id,
    offer: {
      modelId: "m",
      name: "m",
      engine: "naive",
      trustTier: "float",
      contextTokensMax: 8_192,
      parallelMax: slots,
      resumable: true,
      features: [],
      price: freePriceSheet,
    },
    active: Math.min(slots, endsMs.length),
    queued: Math.max(0, endsMs.length - slots),
    roundTripMs,
    roundTripFrom: "measured",
    jitterMs: 0,
    ttftMs: pace.ttftMs,
    prefillTokens: pace.prefillTokens,
    prefillMsPerToken: pace.prefillMsPerToken(defaultPolicy.unknownPrefillMsPerToken),
    tpotMs: pace.tpotMs,
    answerMs: pace.answerMs,
    failureShare: 0,
    trust: 0.5,
    cachedTokens: 0,
    aheadTokens: 0,
    cooling: false,
  };
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}
