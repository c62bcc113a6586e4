/**
 * What a batch makes of free capacity, and what it costs those who wait: lines per second through the whole gateway, as
 * a share of what the same engines do when nothing is between; and the time to first token of interactive requests with
 * and without a batch beside them. This part runs in simulated time, with engines that need a fixed time per token
 * whatever runs beside it: it measures admission, not how much a crowded engine slows down. How many lines per second the
 * gateway can keep books of, with its store on disk, is measured in real time.
 *
 *   npm run bench -- batch [--quick]
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Table from "cli-table3";
import { createNaiveEngine, type NaiveEngineOptions, naiveDefaults } from "../src/engine/naive.ts";
import type { Engine } from "../src/engine/port.ts";
import { createGateway, type Gateway } from "../src/gateway/index.ts";
import { defaultLimits } from "../src/gateway/options.ts";
import { acceptProviderSession } from "../src/network/gateway-session.ts";
import { createSigner } from "../src/network/identity.ts";
import { MemoryHub } from "../src/network/memory.ts";
import { openGatewaySession } from "../src/network/provider-session.ts";
import { greedySampling } from "../src/protocol/generate.ts";
import { freePriceSheet } from "../src/protocol/price.ts";
import { signOffer } from "../src/protocol/signing.ts";
import { createProvider } from "../src/provider/index.ts";
import { defaultPolicy } from "../src/router/policy.ts";
import { MemoryStore } from "../src/store/memory.ts";
import type { Store } from "../src/store/port.ts";
import { openSqliteStore } from "../src/store/sqlite.ts";
import { type Clock, ManualClock, systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { type Random, seededRandom, systemRandom } from "../src/util/random.ts";

const quick = process.argv.includes("--quick");
const providersCount = 4;
const slots = 8;
const prefillMs = 30;
const msPerToken = 10;
const answerTokens = 24;
const delayMs = 5;
const peakRounds = 30;
/** Interactive requests that run at any time, of all slots. */
const interactiveShare = 0.25;
const lines = quick ? 800 : 3_000;
const interactiveRequests = quick ? 200 : 600;
const rounds = quick ? 1 : 3;
const instantLines = quick ? 2_000 : 100_000;
const software = "skein bench";
const base = "http://127.0.0.1:4141/v1";
/** Turns of the event loop in which everything that is due at one moment happens. */
const turnsPerMs = 12;

interface World {
  readonly clock: Clock;
  readonly gateway: Gateway;
  close(): Promise<void>;
}

function engineOf(clock: Clock, options: Partial<NaiveEngineOptions>): Engine {
  const own = { ...naiveDefaults, parallelMax: slots, prefillMs, msPerToken, answerTokens, ...options };
  return createNaiveEngine({ clock }, own);
}

/** Lets simulated time pass while some work is done; returns how long it took, in milliseconds. */
async function timed<T>(clock: ManualClock, work: () => Promise<T>): Promise<{ result: T; tookMs: number }> {
  const startMs = clock.monotonicMs();
  const done = { value: false };
  const working = work().finally(() => (done.value = true));
  while (!done.value) {
    clock.advance(1);
    for (let turn = 0; turn < turnsPerMs; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
  return { result: await working, tookMs: clock.monotonicMs() - startMs };
}

const pause = (clock: Clock, ms: number): Promise<void> =>
  new Promise((resolve) => clock.schedule(ms, resolve));

/** A gateway, and providers behind a simulated network. */
async function open(
  clock: Clock,
  store: Store,
  random: Random,
  options: Partial<NaiveEngineOptions> = {},
): Promise<World> {
  const deps = { clock, random, log: silentLogger };
  const hub = new MemoryHub({ clock, delayMs: () => delayMs });
  const server = hub.create((await createSigner(systemRandom.bytes(32))).providerId);
  const gateway = createGateway(
    { ...deps, store },
    {
      gatewayId: server.peerId,
      version: software,
      joinAddresses: () => server.addresses(),
      join: "open",
      apiKeys: [],
      allowedHosts: [],
      corsOrigins: [],
      cloudPrice: null,
      limits: defaultLimits,
      policy: defaultPolicy,
      cloud: null,
    },
  );
  server.onConnection((connection) => {
    const facts = { gatewayId: server.peerId, policy: { kind: "open" } as const, software };
    void acceptProviderSession(deps, connection, facts).then((session) => gateway.addSession(session));
  });
  for (let i = 0; i < providersCount; i++) {
    await addProvider(deps, hub, server.addresses()[0]!, engineOf(clock, options));
  }
  const close = async (): Promise<void> => {
    gateway.close();
    await store.close();
  };
  while (
    (await (await gateway.fetch(new Request(`${base}/models`))).json()).data[0]?.skein.providers !==
    providersCount
  ) {
    await pause(clock, 50);
  }
  return { clock, gateway, close };
}

type Deps = Parameters<typeof createProvider>[0];

async function addProvider(
  deps: Pick<Deps, "clock" | "random" | "log">,
  hub: MemoryHub,
  address: string,
  engine: Engine,
): Promise<void> {
  const signer = await createSigner(systemRandom.bytes(32));
  const network = hub.create(signer.providerId);
  const provider = createProvider(
    {
      ...deps,
      sign: (offer) => signOffer(signer, offer),
      connect: async (target, handler, signal) => {
        const connection = await network.dial(target, signal);
        return openGatewaySession(
          deps,
          connection,
          { providerId: network.peerId, token: null, software },
          handler,
        );
      },
    },
    { providerId: network.peerId, region: "", served: [{ engine, name: "naive", price: freePriceSheet }] },
  );
  provider.join(address);
}

/** Answers per second when every slot of as many engines is asked again as soon as it is free. */
async function peak(clock: ManualClock): Promise<number> {
  const engines = Array.from({ length: providersCount }, () => engineOf(clock, {}));
  // Whole rounds of all slots: no slot is empty at the end.
  const count = providersCount * slots * peakRounds;
  let asked = 0;
  const one = async (engine: Engine): Promise<void> => {
    while (asked < count) {
      const request = {
        requestId: "r",
        modelId: naiveDefaults.modelId,
        prompt: { kind: "text", text: `${asked++}` },
        emitted: { tokenIds: [], text: "" },
        sampling: greedySampling,
        stop: [],
        constraint: null,
        logprobs: null,
        outputTokensMax: null,
        timeoutMs: 600_000,
      } as const;
      // oxlint-disable-next-line no-unused-vars
      for await (const _ of engine.generate(request, new AbortController().signal));
    }
  };
  const { tookMs } = await timed(clock, () =>
    Promise.all(engines.flatMap((engine) => Array.from({ length: slots }, () => one(engine)))),
  );
  return (count * 1000) / tookMs;
}

async function submit({ gateway }: World, count: number): Promise<string> {
  const line = (i: number): string =>
    JSON.stringify({
      custom_id: `${i}`,
      method: "POST",
      url: "/v1/chat/completions",
      body: { model: "naive", messages: [{ role: "user", content: `Question ${i}` }] },
    });
  const form = new FormData();
  form.append("purpose", "batch");
  form.append("file", new Blob([Array.from({ length: count }, (_, i) => line(i)).join("\n")]), "in.jsonl");
  const file = await json(gateway, new Request(`${base}/files`, { method: "POST", body: form }));
  const body = { input_file_id: file["id"], endpoint: "/v1/chat/completions", completion_window: "24h" };
  const batch = await json(gateway, post("/batches", body));
  return String(batch["id"]);
}

const post = (path: string, body: object): Request =>
  new Request(base + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

async function json(gateway: Gateway, request: Request): Promise<Record<string, unknown>> {
  return (await (await gateway.fetch(request)).json()) as Record<string, unknown>;
}

interface Status {
  readonly status: string;
  readonly completed: number;
}

async function statusOf({ gateway }: World, id: string): Promise<Status> {
  const batch = await json(gateway, new Request(`${base}/batches/${id}`));
  const { completed } = batch["request_counts"] as { completed: number };
  return { status: String(batch["status"]), completed };
}

/** Lines per second from the moment at which the batch is handed in to its last answer. */
async function batchAlone(world: World, count: number): Promise<number> {
  const id = await submit(world, count);
  const startMs = world.clock.monotonicMs();
  for (;;) {
    const { status, completed } = await statusOf(world, id);
    if (completed === count) return (count * 1000) / (world.clock.monotonicMs() - startMs);
    if (status === "failed") throw new Error("the batch failed");
    await pause(world.clock, 20);
  }
}

/** Times to first token of requests that follow each other in so many streams. */
async function interactive({ gateway, clock }: World, count: number): Promise<number[]> {
  const ttftMs: number[] = [];
  let asked = 0;
  const one = async (): Promise<void> => {
    while (asked++ < count) {
      const body = { model: "naive", stream: true, messages: [{ role: "user", content: `Now ${asked}` }] };
      const startMs = clock.monotonicMs();
      const response = await gateway.fetch(post("/chat/completions", body));
      if (response.status !== 200) throw new Error(await response.text());
      let seen = false;
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
        if (!seen && /"content":"[^"]/.test(part)) {
          seen = true;
          ttftMs.push(clock.monotonicMs() - startMs);
        }
      }
    }
  };
  const streams = Math.round(interactiveShare * providersCount * slots);
  await Promise.all(Array.from({ length: streams }, one));
  return ttftMs;
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]!;
}

function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

type Note = (key: string, value: number) => void;

/** One round in simulated time. */
async function simulate(seed: number, note: Note): Promise<void> {
  const clock = new ManualClock();
  // 1. The engines alone, then the batch alone.
  note("peakPerSecond", await peak(clock));
  await timed(clock, async () => {
    const world = await open(clock, new MemoryStore(clock), seededRandom(seed));
    note("batchPerSecond", await batchAlone(world, lines));
    // 2. Interactive requests without, then with a batch that has work for much longer.
    const without = await interactive(world, interactiveRequests);
    const id = await submit(world, lines * 4);
    while ((await statusOf(world, id)).completed === 0) await pause(clock, 20);
    const before = await statusOf(world, id);
    const startMs = clock.monotonicMs();
    const beside = await interactive(world, interactiveRequests);
    const after = await statusOf(world, id);
    const passedMs = clock.monotonicMs() - startMs;
    note("besidePerSecond", ((after.completed - before.completed + interactiveRequests) * 1000) / passedMs);
    for (const [key, values] of [
      ["without", without],
      ["beside", beside],
    ] as const) {
      note(`${key}TtftP50Ms`, quantile(values, 0.5));
      note(`${key}TtftP99Ms`, quantile(values, 0.99));
    }
    await world.close();
  });
}

/** Lines per second with engines that need no time, in real time, with the store on disk. */
async function books(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "skein-bench-batch-"));
  const store = await openSqliteStore(join(folder, "gateway.db"), systemClock);
  const instant = { prefillMs: 0, msPerToken: 0, answerTokens: 4, parallelMax: 64 };
  const world = await open(systemClock, store, systemRandom, instant);
  const perSecond = await batchAlone(world, instantLines);
  await world.close();
  await rm(folder, { recursive: true });
  return perSecond;
}

async function main(): Promise<void> {
  const alive = setInterval(() => undefined, 1_000);
  const results: Record<string, number[]> = {};
  const note = (key: string, value: number): number => (results[key] ??= []).push(value);
  for (let round = 0; round < rounds; round++) await simulate(round + 1, note);
  const booksPerSecond = await books();
  clearInterval(alive);
  const of = (key: string): number => median(results[key]!);
  const ratio = (key: string, to: string): number => Number((of(key) / of(to)).toFixed(4));
  const table = new Table({ style: { head: [], border: [] }, head: ["", "median", "of"] });
  table.push(
    [
      "batch alone, share of the engines' peak",
      ratio("batchPerSecond", "peakPerSecond"),
      `${of("peakPerSecond").toFixed(1)} answers/s`,
    ],
    [
      "both together, share of the peak",
      ratio("besidePerSecond", "peakPerSecond"),
      `${(100 * interactiveShare).toFixed(0)} % of slots interactive`,
    ],
    [
      "interactive TTFT p99, with / without",
      ratio("besideTtftP99Ms", "withoutTtftP99Ms"),
      `${of("withoutTtftP99Ms").toFixed(1)} ms`,
    ],
    [
      "interactive TTFT p50, with / without",
      ratio("besideTtftP50Ms", "withoutTtftP50Ms"),
      `${of("withoutTtftP50Ms").toFixed(1)} ms`,
    ],
    ["lines/s kept with engines that need no time", booksPerSecond.toFixed(0), `${instantLines} lines`],
  );
  console.log(table.toString());
  const rounded = Object.entries(results).map(([key, values]) => [key, Number(median(values).toFixed(3))]);
  console.log(
    JSON.stringify({
      bench: "batch",
      rounds,
      lines,
      interactiveRequests,
      interactiveShare,
      providers: providersCount,
      slots,
      batchShareOfPeak: ratio("batchPerSecond", "peakPerSecond"),
      besideShareOfPeak: ratio("besidePerSecond", "peakPerSecond"),
      ttftP99Ratio: ratio("besideTtftP99Ms", "withoutTtftP99Ms"),
      ttftP50Ratio: ratio("besideTtftP50Ms", "withoutTtftP50Ms"),
      booksLines: instantLines,
      booksLinesPerSecond: Number(booksPerSecond.toFixed(1)),
      ...Object.fromEntries(rounded),
      quick: quick ? 1 : 0,
    }),
  );
}

await main();
process.exit(0);
