/**
 * What audits cost those who ask: time to first token and per token of streams over a gateway whose one exact provider, in a thread,
 * shares the machine with the gateway's audits; without audits, with those of a newcomer (25 %), and of every answer. Arms take turns.
 */
import { parseArgs } from "node:util";
import { createExactEngine } from "../src/engine/exact/index.ts";
import { tinySkein } from "../src/engine/exact/fixture.suite.ts";
import { sha256 } from "../src/engine/sha256.ts";
import { createCheckerThread } from "../src/gateway/audits/checker-thread.ts";
import { FakeSession, price, testGateway, type TestGateway } from "../src/gateway/fixture.suite.ts";
import { settled } from "../src/gateway/audits/detect.suite.ts";
import { createRequestHandler } from "../src/provider/handler.ts";
import { makeSigner, memoryChain } from "../src/receipt/fixture.suite.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { quantile } from "./lib/routing-load.ts";

const { values } = parseArgs({ options: { quick: { type: "boolean", default: false } } });
const turns = values.quick ? 2 : 15;
/** In a row: long enough that audits of the first fall into the others. */
const blockAnswers = 12;
const answerTokens = 64;
/** Short, so that audits fall into the next answers. */
const roundMs = 200;

const modelPath = await tinySkein();
const wishes = { modelPath, name: "sold", contextTokens: null, parallel: null, threads: 1 };
const engine = await createExactEngine({ clock: systemClock, log: silentLogger }, wishes);

async function open(hasAudits: boolean): Promise<TestGateway> {
  const signer = await makeSigner();
  const checker = await createCheckerThread(systemClock, { files: [modelPath], folder: null });
  const audits = { signer, checker, roundMs, retentionMs: 3600_000, canaries: null };
  const it = testGateway({ receipts: { retentionMs: 3600_000 }, ...(hasAudits ? { audits } : {}) });
  const provider = await makeSigner();
  const session = new FakeSession(provider.providerId, engine);
  const chain = { ...memoryChain(), find: async () => null };
  const deps = { sha256, signer: provider, clock: systemClock, chain, software: "bench" };
  const handler = createRequestHandler([{ engine, name: "sold", price }], () => false, deps);
  session.events = (request, signal) => handler.generate(request, signal);
  it.gateway.addSession(session);
  await new Promise((resolve) => setTimeout(resolve, 200));
  return it;
}

interface Measured {
  readonly ttftMs: number;
  readonly tpotMs: number;
}

async function ask(it: TestGateway, seed: number, trust: string | null): Promise<Measured> {
  const skein = trust === null ? {} : { skein: { trust } };
  const body = {
    model: "sold",
    prompt: "Once upon a time",
    max_tokens: answerTokens,
    seed,
    stream: true,
    stream_options: { include_usage: true },
    ...skein,
  };
  const startMs = performance.now();
  const response = await it.post("/v1/completions", { ...body, temperature: 1 });
  if (response.status !== 200) throw new Error(await response.text());
  let firstMs = 0;
  let text = "";
  for await (const bytes of response.body!) {
    text += new TextDecoder().decode(bytes);
    if (firstMs === 0 && /"text":"[^"]/.test(text)) firstMs = performance.now() - startMs;
  }
  const tokens = Number(/"completion_tokens":(\d+)/.exec(text)?.[1]);
  return { ttftMs: firstMs, tpotMs: (performance.now() - startMs - firstMs) / Math.max(1, tokens - 1) };
}

const arms = [
  { name: "off", it: await open(false), trust: null },
  { name: "newcomer", it: await open(true), trust: null },
  { name: "every", it: await open(true), trust: "audit:100%" },
] as const;
const measured = new Map<string, Measured[]>(arms.map(({ name }) => [name, []]));
let seed = 0;
for (let turn = -1; turn < turns; turn++) {
  // Each arm comes first as often as last; no answer is asked for twice, so that no cache knows it.
  for (let k = 0; k < arms.length; k++) {
    const { name, it, trust } = arms[(k + turn + 3) % arms.length]!;
    for (let i = 0; i < blockAnswers; i++) {
      const one = await ask(it, (seed += 1), trust);
      if (turn >= 0) measured.get(name)!.push(one);
    }
    // What is left of its audits must not slow the others.
    if (name !== "off") await settled(it);
  }
}
const short = (value: number): number => Number(value.toPrecision(4));
const figures: Record<string, number> = { answers: blockAnswers * turns };
console.log("audits | TTFT p50 | p95 | TPOT p50 | p95 (ms)");
for (const { name, it } of arms) {
  const all = measured.get(name)!;
  const of = (key: keyof Measured, share: number): number =>
    short(
      quantile(
        all.map((one) => one[key]),
        share,
      ),
    );
  const row = {
    ttftMsP50: of("ttftMs", 0.5),
    ttftMsP95: of("ttftMs", 0.95),
    tpotMsP50: of("tpotMs", 0.5),
    tpotMsP95: of("tpotMs", 0.95),
  };
  console.log([name, ...Object.values(row)].join(" | "));
  for (const [key, value] of Object.entries(row)) figures[`${name}_${key}`] = value;
  it.gateway.close();
}
figures["ttftRatioNewcomer"] = short(figures["newcomer_ttftMsP50"]! / figures["off_ttftMsP50"]!);
figures["tpotRatioNewcomer"] = short(figures["newcomer_tpotMsP50"]! / figures["off_tpotMsP50"]!);
figures["ttftRatioEvery"] = short(figures["every_ttftMsP50"]! / figures["off_ttftMsP50"]!);
figures["tpotRatioEvery"] = short(figures["every_tpotMsP50"]! / figures["off_tpotMsP50"]!);
console.log(JSON.stringify(figures));
await engine.close();
process.exit(0);
