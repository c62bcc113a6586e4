/** A small trace of our own making, for whoever has no recorded one: conversations that grow from turn to turn. */
import type { Random } from "../../src/util/random.ts";
import { traceBlockTokens, type TracedRequest } from "./trace.ts";

/** Everybody's first block: a system prompt. */
const systemBlock = 0;
const requestsPerSecond = 4;
/** Share of requests that continue a conversation. */
const continuedShare = 0.6;
/** Conversations that may be continued: the latest ones. */
const openMax = 200;
const promptTokensMean = 1_500;
const promptTokensMax = 32_000;
const outputTokensMean = 180;
const outputTokensMax = 1_000;

/** Requests as Poisson arrivals; lengths are exponential, as recorded ones roughly are. */
export function syntheticTrace(count: number, random: Random): TracedRequest[] {
  const exponential = (mean: number): number => -Math.log(1 - random.next()) * mean;
  const open: number[][] = [];
  let nextBlock = systemBlock + 1;
  let atMs = 0;
  return Array.from({ length: count }, () => {
    atMs += exponential(1000 / requestsPerSecond);
    const isContinued = open.length > 0 && random.next() < continuedShare;
    const known = isContinued ? open.splice(Math.floor(random.next() * open.length), 1)[0]! : [systemBlock];
    const added = Math.ceil(exponential(promptTokensMean));
    const promptTokens = Math.min(promptTokensMax, known.length * traceBlockTokens + added);
    const blocks = known.slice(0, Math.ceil(promptTokens / traceBlockTokens));
    while (blocks.length * traceBlockTokens < promptTokens) blocks.push(nextBlock++);
    // What is not whole is followed by other text in the next turn.
    open.push(blocks.slice(0, Math.floor(promptTokens / traceBlockTokens)));
    if (open.length > openMax) open.shift();
    const outputTokens = Math.min(outputTokensMax, Math.ceil(exponential(outputTokensMean)));
    return { atMs, promptTokens, outputTokens, blocks };
  });
}
