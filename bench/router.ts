/**
 * What a routing decision costs among 1,000 to 50,000 live offers (time, memory), the router's part alone and all that the gateway does, and how good it is: a synthetic
 * load over providers of very different speed, against random, round robin and least loaded.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { promptKeys } from "../src/router/prefix-cache.ts";
import { OfferIndex } from "../src/router/offer-index.ts";
import { planAttempts, typicalRequest } from "../src/router/plan.ts";
import { defaultPolicy } from "../src/router/policy.ts";
import { type Candidate, predict } from "../src/router/predict.ts";
import { type Random, seededRandom } from "../src/util/random.ts";
import { anyOffer } from "./lib/any-offer.ts";
import { type Policy, quantile, simulate } from "./lib/routing-load.ts";
import { measureWhole } from "./lib/whole-decision.ts";

const isQuick = process.argv.includes("--quick");
const sizes = [1_000, 10_000, 50_000];
const decisions = isQuick ? 2_000 : 20_000;
const round = (value: number): number => Math.round(value * 100) / 100;

interface Live {
  candidate: Candidate;
}

function anyCandidate(providerId: string, random: Random): Candidate {
  return {
    providerId,
    offer: anyOffer(random),
    active: 0,
    queued: 0,
    roundTripMs: 1 + 250 * random.next() ** 2,
    roundTripFrom: "measured",
    jitterMs: 20 * random.next() ** 2,
    ttftMs: 30 + 800 * random.next() ** 2,
    prefillTokens: 400,
    prefillMsPerToken: random.next(),
    tpotMs: 8 + 80 * random.next(),
    answerMs: 2_000 + 8_000 * random.next(),
    failureShare: 0.1 * random.next() ** 3,
    trust: 0.5,
    cachedTokens: 0,
    aheadTokens: 0,
    cooling: false,
  };
}

/** One decision as the gateway makes it: prompt keys, shortlist, plan; then the chosen one moves in the index. */
function measure(offers: number): {
  decisionUs: number[];
  upkeepUs: number[];
  bytesPerOffer: number;
} {
  const random = seededRandom(offers);
  const heapBytes = usedBytes();
  const index = new OfferIndex<Live>();
  const live: Live[] = [];
  const put = (item: Live): void => {
    const { candidate } = item;
    const { scoreMs } = predict(candidate, typicalRequest, defaultPolicy);
    index.set(candidate.providerId, item, candidate.offer, "available", scoreMs);
  };
  for (let i = 0; i < offers; i++) {
    const item = { candidate: anyCandidate(`12D3KooW${i}`, random) };
    live.push(item);
    put(item);
  }
  const bytesPerOffer = (usedBytes() - heapBytes) / offers;
  const decisionUs: number[] = [];
  const upkeepUs: number[] = [];
  const running: Live[] = [];
  const content = "Which goose flies at the front? ".repeat(40);
  const change = (item: Live, by: number): void => {
    item.candidate = { ...item.candidate, active: item.candidate.active + by };
    put(item);
  };
  const deniedId = live[0]!.candidate.providerId;
  for (let i = 0; i < decisions; i++) {
    const startMs = performance.now();
    const prompt = { kind: "chat", messages: [{ role: "user", content }] } as const;
    const { promptTokens } = promptKeys(prompt, "key");
    const modelId = index.identityOf("model")!;
    const found = index.shortlist([modelId], random, (item) => item.candidate.providerId !== deniedId);
    const candidates = found.map((item) => ({ ...item.candidate }));
    const request = { ...typicalRequest, promptTokens };
    const first = planAttempts(candidates, request, random).attempts[0]!;
    const endMs = performance.now();
    const chosen = index.get(first.candidate.providerId)!;
    change(chosen, 1);
    upkeepUs.push((performance.now() - endMs) * 1000);
    decisionUs.push((endMs - startMs) * 1000);
    running.push(chosen);
    if (running.length > 500) change(running.shift()!, -1);
  }
  return { decisionUs: decisionUs.slice(decisions / 10), upkeepUs, bytesPerOffer };
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function usedBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

const result: Record<string, number | string> = {};
measure(1_000); // warms up
for (const offers of sizes) {
  const { decisionUs, upkeepUs, bytesPerOffer } = measure(offers);
  const [p50, p99] = [round(quantile(decisionUs, 0.5)), round(quantile(decisionUs, 0.99))];
  console.log(
    `${offers} offers: decision ${p50} µs (p50), ${p99} µs (p99); upkeep ${round(quantile(upkeepUs, 0.5))} µs; ${Math.round(bytesPerOffer)} bytes per offer`,
  );
  result[`decisionUsP50At${offers}`] = p50;
  result[`decisionUsP99At${offers}`] = p99;
  result[`upkeepUsP50At${offers}`] = round(quantile(upkeepUs, 0.5));
  result[`bytesPerOfferAt${offers}`] = Math.round(bytesPerOffer);
}

for (const offers of sizes) {
  const { decisionUs, bytesPerOffer } = await measureWhole(offers, decisions, usedBytes);
  const [p50, p99] = [round(quantile(decisionUs, 0.5)), round(quantile(decisionUs, 0.99))];
  console.log(
    `${offers} providers in the gateway's directory: whole decision ${p50} µs (p50), ${p99} µs (p99); ${Math.round(bytesPerOffer)} bytes per provider`,
  );
  result[`wholeDecisionUsP50At${offers}`] = p50;
  result[`wholeDecisionUsP99At${offers}`] = p99;
  result[`directoryBytesPerOfferAt${offers}`] = Math.round(bytesPerOffer);
}

const requests = isQuick ? 5_000 : 40_000;
console.log(`\n${requests} simulated requests, 60 providers, load near what they can do together:`);
const policies: Policy[] = ["router", "random", "roundRobin", "leastLoaded"];
for (const policy of policies) {
  const { ttftMs, totalMs } = simulate(policy, requests, seededRandom(7));
  const [p50, p99] = [Math.round(quantile(ttftMs, 0.5)), Math.round(quantile(ttftMs, 0.99))];
  const [totalP50, totalP99] = [Math.round(quantile(totalMs, 0.5)), Math.round(quantile(totalMs, 0.99))];
  console.log(
    `${policy.padEnd(12)} first token ${p50} ms (p50), ${p99} ms (p99); whole answer ${totalP50} ms (p50), ${totalP99} ms (p99)`,
  );
  result[`${policy}TtftMsP50`] = p50;
  result[`${policy}TtftMsP99`] = p99;
  result[`${policy}TotalMsP50`] = totalP50;
  result[`${policy}TotalMsP99`] = totalP99;
}
console.log(JSON.stringify({ ...result, decisions, requests, rival: "random, round robin, least loaded" }));
