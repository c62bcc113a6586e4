/**
 * What gateway, session and HTTP add to an engine: milliseconds to the first token, CPU per token. The rival is
 * the same paced engine, called directly in the same kind of process. Client and subject are two processes.
 */
import { type ChildProcess, fork } from "node:child_process";
import { request as httpRequest, Agent } from "node:http";
import { fileURLToPath } from "node:url";
import { type FromSubject, type Load, stagger, type ToSubject } from "./gateway-load.ts";

const isQuick = process.argv.includes("--quick");
const runs = isQuick ? 2 : 5;
const load: Load = { streams: 32, requestsPerStream: isQuick ? 2 : 6, tokens: 100, msPerToken: 10 };
const tokensPerRun = load.streams * load.requestsPerStream * load.tokens;
const agent = new Agent({ keepAlive: true, maxSockets: load.streams });

function startSubject(): ChildProcess {
  return fork(fileURLToPath(new URL("./gateway-subject.ts", import.meta.url)), {
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
}

function ask<T extends FromSubject["type"]>(
  child: ChildProcess,
  message: ToSubject,
): Promise<Extract<FromSubject, { type: T }>> {
  return new Promise((resolve, reject) => {
    child.once("message", (answer: FromSubject) => resolve(answer as Extract<FromSubject, { type: T }>));
    child.once("error", reject);
    child.send(message);
  });
}

/** One streamed completion over HTTP; resolves with the milliseconds to the first text. */
function complete(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify({
      model: "naive",
      messages: [{ role: "user", content: "Which goose?" }],
      stream: true,
      temperature: 0,
    });
    const startMs = performance.now();
    let firstMs = 0;
    let tail = "";
    const options = { method: "POST", agent, headers: { "content-type": "application/json" } };
    const request = httpRequest(`${url}/v1/chat/completions`, options, (response) => {
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        if (firstMs === 0 && /"content":"[^"]/.test(chunk)) firstMs = performance.now();
        tail = (tail + chunk).slice(-20);
      });
      response.on("end", () => {
        if (tail.includes("[DONE]")) resolve(firstMs - startMs);
        else reject(new Error(`status ${response.statusCode}, ended with ${tail}`));
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function throughGateway(): Promise<{ ttftMs: number[]; cpuUs: number }> {
  const child = startSubject();
  const { url } = await ask<"serving">(child, { type: "serve", load });
  await untilServed(url);
  await Promise.all(Array.from({ length: load.streams }, () => complete(url)));
  const before = await ask<"cpu">(child, { type: "cpu" });
  const ttftMs: number[] = [];
  const one = async (stream: number): Promise<void> => {
    await stagger(load, stream);
    for (let i = 0; i < load.requestsPerStream; i++) ttftMs.push(await complete(url));
  };
  await Promise.all(Array.from({ length: load.streams }, (_, stream) => one(stream)));
  const after = await ask<"cpu">(child, { type: "cpu" });
  child.disconnect();
  return { ttftMs, cpuUs: after.cpuUs - before.cpuUs };
}

async function untilServed(url: string): Promise<void> {
  for (let i = 0; i < 200; i++) {
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: unknown[] };
    if (data.length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the provider was not served");
}

async function directly(): Promise<{ ttftMs: number[]; cpuUs: number }> {
  const child = startSubject();
  await ask<"direct">(child, { type: "direct", load: { ...load, requestsPerStream: 1 } });
  const result = await ask<"direct">(child, { type: "direct", load });
  child.disconnect();
  return result;
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

const median = (values: readonly number[]): number => quantile(values, 0.5);
const round = (value: number): number => Math.round(value * 100) / 100;

/** The newest value with its sign. */
const signed = (values: readonly number[]): string => {
  const value = round(values.at(-1)!);
  return value < 0 ? String(value) : `+${value}`;
};

const added = {
  p50: [] as number[],
  p99: [] as number[],
  cpu: [] as number[],
  directCpu: [] as number[],
  gatewayP50: [] as number[],
};
for (let run = 1; run <= runs; run++) {
  const rival = await directly();
  const ours = await throughGateway();
  added.p50.push(median(ours.ttftMs) - median(rival.ttftMs));
  added.p99.push(quantile(ours.ttftMs, 0.99) - quantile(rival.ttftMs, 0.99));
  added.cpu.push((ours.cpuUs - rival.cpuUs) / tokensPerRun);
  added.directCpu.push(rival.cpuUs / tokensPerRun);
  added.gatewayP50.push(median(ours.ttftMs));
  console.log(
    `run ${run} of ${runs}: first token ${signed(added.p50)} ms (p50), ${signed(added.p99)} ms (p99), ` +
      `CPU ${signed(added.cpu)} µs per token (engine alone ${round(added.directCpu.at(-1)!)} µs)`,
  );
}
console.log(
  `\n${load.streams} streams, ${tokensPerRun} tokens a run at ${1000 / load.msPerToken} tokens/s each; CPU is that of provider, session, gateway and HTTP server together.`,
);
console.log(
  JSON.stringify({
    ttftAddedMsP50: round(median(added.p50)),
    ttftAddedMsP99: round(median(added.p99)),
    cpuPerTokenUs: round(median(added.cpu)),
    rivalCpuPerTokenUs: round(median(added.directCpu)),
    ttftMsP50: round(median(added.gatewayP50)),
    streams: load.streams,
    tokensPerSecondPerStream: 1000 / load.msPerToken,
    runs,
    rival: "the same paced engine called directly",
  }),
);
agent.destroy();
