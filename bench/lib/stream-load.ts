/** Clients that keep a number of streams open, and what they and the process between see. */
import { Agent, request as httpRequest } from "node:http";
import { answerTokensOf, modelName, tokensPerSecond } from "./pace.ts";
import { cpuUs, residentBytes } from "./process-usage.ts";

export interface Measured {
  readonly ttftMs: readonly number[];
  /** Of the process between; null where the system does not tell. */
  readonly cpuPerTokenUs: number | null;
  readonly residentMb: number | null;
  /** Of one stream, while it was measured; less than it should be: something did not keep up. */
  readonly tokensPerSecond: number;
  readonly errors: readonly string[];
}

const body = JSON.stringify({
  model: modelName,
  messages: [{ role: "user", content: "Which goose flies at the front?" }],
  stream: true,
  temperature: 0,
});
/** Every source says the same word. */
const token = Buffer.from('"content":"goose ');

/**
 * @param processIds of what stands between; none: nothing does
 * @param settleMs of load before the measurement: caches and compilers are warm, streams spread out
 */
export async function measureStreams(
  target: {
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly processIds: readonly number[];
  },
  load: { readonly streams: number; readonly settleMs: number; readonly measureMs: number },
): Promise<Measured> {
  const agent = new Agent({ keepAlive: true, maxSockets: load.streams + 10 });
  const seen = { ttftMs: [] as number[], tokens: 0, errors: [] as string[] };
  const over = new AbortController();
  const answerMs = (answerTokensOf(load.streams) / tokensPerSecond) * 1000;
  const client = async (number: number): Promise<void> => {
    await sleep((number / load.streams) * answerMs);
    while (!over.signal.aborted) {
      try {
        await oneAnswer(agent, target, seen, over.signal);
      } catch (error) {
        if (over.signal.aborted) return;
        seen.errors.push(String(error));
        await sleep(200);
      }
    }
  };
  const clients = Array.from({ length: load.streams }, (_, number) => client(number));
  await sleep(answerMs + load.settleMs);
  const before = { cpuUs: cpuUs(target.processIds), tokens: seen.tokens, samples: seen.ttftMs.length };
  const startMs = performance.now();
  await sleep(load.measureMs);
  const elapsedMs = performance.now() - startMs;
  const tokens = seen.tokens - before.tokens;
  const usedUs = cpuUs(target.processIds);
  const resident = residentBytes(target.processIds);
  const ttftMs = seen.ttftMs.slice(before.samples);
  over.abort();
  await Promise.allSettled(clients);
  agent.destroy();
  const isKnown = target.processIds.length > 0 && usedUs !== null && before.cpuUs !== null;
  return {
    ttftMs,
    cpuPerTokenUs: isKnown ? (usedUs - before.cpuUs!) / tokens : null,
    residentMb: target.processIds.length > 0 && resident !== null ? resident / 2 ** 20 : null,
    tokensPerSecond: (tokens / elapsedMs / load.streams) * 1000,
    errors: seen.errors,
  };
}

function oneAnswer(
  agent: Agent,
  { url, headers }: { readonly url: string; readonly headers: Readonly<Record<string, string>> },
  seen: { ttftMs: number[]; tokens: number },
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const startMs = performance.now();
    let isFirst = true;
    let isWhole = false;
    const options = {
      method: "POST",
      agent,
      signal,
      headers: { "content-type": "application/json", "content-length": body.length, ...headers },
    };
    const request = httpRequest(`${url}/v1/chat/completions`, options, (response) => {
      response.on("data", (piece: Buffer) => {
        if (isFirst && piece.includes(token)) {
          isFirst = false;
          seen.ttftMs.push(performance.now() - startMs);
        }
        for (let at = piece.indexOf(token); at >= 0; at = piece.indexOf(token, at + token.length))
          seen.tokens += 1;
        if (piece.includes("[DONE]")) isWhole = true;
      });
      response.on("end", () => {
        if (isWhole) resolve();
        else reject(new Error(`status ${response.statusCode}, no end`));
      });
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
