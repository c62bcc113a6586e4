/** Replays a trace in simulated time: providers of different speed that leave and come back, and who chooses among them. */
import { MemoryHub } from "../../src/network/memory.ts";
import { createSigner } from "../../src/network/identity.ts";
import type { Signer } from "../../src/protocol/signing.ts";
import type { Provider } from "../../src/provider/index.ts";
import { ManualClock } from "../../src/util/clock.ts";
import { silentLogger } from "../../src/util/log.ts";
import { type Random, seededRandom } from "../../src/util/random.ts";
import { acceptProviders, openGateway, providerOf } from "./composition.ts";
import {
  anyMachine,
  createModelledEngine,
  demandMs,
  type Machine,
  modelName,
  type Spent,
} from "./modelled-engine.ts";
import { PlainBalancer, type Rule } from "./plain-balancer.ts";
import { passUntil, withoutThreads } from "./simulated-time.ts";
import { traceBlockTokens, type TracedRequest } from "./trace.ts";

export type Policy = "router" | Rule;

export interface ReplayOptions {
  readonly providers: number;
  /** Arrivals so many times as fast as recorded. */
  readonly scale: number;
  /** Percent of the providers that leave in a minute; each comes back. */
  readonly churn: number;
  readonly seed: number;
}

/** What the client saw of one request; latencies only where it succeeded. */
export interface Replayed {
  readonly error: string | null;
  readonly ttftMs: number;
  readonly tpotMs: number | null;
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

/** Time moves at least by this much: what happens within it happens together. */
const grainMs = 1;
/** Providers join, and are probed, before the first request. */
const warmUpMs = 3_000;
/** Nothing takes as long after the last arrival. */
const endMs = 30 * 60_000;
/** Providers that leave on purpose let their answers end within this time. */
const drainMs = 5_000;
const awayMinMs = 5_000;
const awayMaxMs = 15_000;
const gatewaySeed = 1_000_000;

/** Machines are the same for the same seed. */
export function machinesOf({ providers, seed }: Pick<ReplayOptions, "providers" | "seed">): Machine[] {
  const random = seededRandom(seed);
  return Array.from({ length: providers }, () => anyMachine(random));
}

/** The scale at which the trace asks for `load` of what all machines can do together, without any cache. */
export function scaleFor(
  trace: readonly TracedRequest[],
  machines: readonly Machine[],
  load: number,
): number {
  const mean = (of: (request: TracedRequest) => number): number =>
    trace.reduce((sum, request) => sum + of(request), 0) / trace.length;
  const [promptTokens, outputTokens] = [mean((r) => r.promptTokens), mean((r) => r.outputTokens)];
  const perMs = machines.reduce((sum, machine) => sum + 1 / demandMs(machine, promptTokens, outputTokens), 0);
  const durationMs = Math.max(1, trace.at(-1)!.atMs);
  return (load * perMs * durationMs) / trace.length;
}

/** @param spent hears what all machines spent */
export async function replay(
  trace: readonly TracedRequest[],
  policy: Policy,
  options: ReplayOptions,
  spent: Spent = { allMs: 0, abandonedMs: 0 },
): Promise<Replayed[]> {
  const release = withoutThreads();
  try {
    return await run(trace, policy, options, spent);
  } finally {
    release();
  }
}

async function run(
  trace: readonly TracedRequest[],
  policy: Policy,
  options: ReplayOptions,
  spent: Spent,
): Promise<Replayed[]> {
  // 1. The gateway, or its rival, and everybody else.
  const clock = new ManualClock();
  const fleet = await Fleet.create(clock, policy, options, spent);
  await passUntil(clock, clock.monotonicMs() + warmUpMs, grainMs);
  // 2. Requests and departures, when they are due.
  const startMs = clock.monotonicMs();
  const lastMs = trace.at(-1)!.atMs / options.scale;
  const results: Replayed[] = [];
  const ended = { count: 0 };
  trace.forEach((request, i) => {
    clock.schedule(request.atMs / options.scale, () => {
      void fleet.ask(request, i).then((replayed) => {
        results[i] = replayed;
        ended.count += 1;
      });
    });
  });
  const churning = seededRandom(options.seed + 1);
  const meanMs = 60_000 / ((options.churn / 100) * options.providers);
  for (let atMs = 0; Number.isFinite(meanMs);) {
    atMs += -Math.log(1 - churning.next()) * meanMs;
    if (atMs > lastMs) break;
    const [who, how, awayShare] = [churning.next(), churning.next(), churning.next()];
    const awayMs = awayMinMs + awayShare * (awayMaxMs - awayMinMs);
    clock.schedule(atMs, () => fleet.leave(Math.floor(who * options.providers), how < 0.5, awayMs));
  }
  // 3. Until all have their answers.
  while (ended.count < trace.length && clock.monotonicMs() < startMs + lastMs + endMs) {
    await passUntil(clock, clock.monotonicMs() + 100, grainMs);
  }
  await fleet.close();
  if (ended.count < trace.length) throw new Error(`${trace.length - ended.count} requests hang`);
  return results;
}

interface Place {
  readonly machine: Machine;
  readonly signer: Signer;
  provider: Provider | null;
  network: ReturnType<MemoryHub["create"]> | null;
}

/** Asks one request; resolves when its answer has ended. */
type Ask = (
  tokenIds: number[],
  outputTokens: number,
  onTokens: (count: number) => void,
) => Promise<{ promptTokens: number; cachedTokens: number }>;

class Fleet {
  readonly #clock: ManualClock;
  readonly #random: Random;
  readonly #hub: MemoryHub;
  readonly #server: ReturnType<MemoryHub["create"]>;
  readonly #places: Place[] = [];
  readonly #complete: Ask;
  readonly #stop: () => void;

  private constructor(clock: ManualClock, gatewayId: string, policy: Policy, seed: number, spent: Spent) {
    this.#clock = clock;
    this.#spent = spent;
    this.#random = seededRandom(seed + 2);
    const oneWayMs = new Map<string, number>();
    this.#hub = new MemoryHub({
      clock,
      delayMs: (from, to) => oneWayMs.get(from) ?? oneWayMs.get(to) ?? 0,
    });
    this.#oneWayMs = oneWayMs;
    this.#server = this.#hub.create(gatewayId);
    const deps = { clock, random: seededRandom(seed + 3), log: silentLogger };
    if (policy === "router") {
      const gateway = openGateway(deps, this.#server);
      this.#complete = throughGateway((request) => gateway.fetch(request));
      this.#stop = () => gateway.close();
    } else {
      const balancer = new PlainBalancer(deps, policy);
      acceptProviders(deps, this.#server, (session) => balancer.add(session));
      this.#complete = (...asked) => balancer.answer(...asked);
      this.#stop = () => balancer.close();
    }
  }

  readonly #oneWayMs: Map<string, number>;
  readonly #spent: Spent;

  static async create(
    clock: ManualClock,
    policy: Policy,
    options: ReplayOptions,
    spent: Spent,
  ): Promise<Fleet> {
    const gateway = await createSigner(seededRandom(gatewaySeed).bytes(32));
    const fleet = new Fleet(clock, gateway.providerId, policy, options.seed, spent);
    for (const [i, machine] of machinesOf(options).entries()) {
      const signer = await createSigner(seededRandom(gatewaySeed + 1 + i).bytes(32));
      fleet.#oneWayMs.set(signer.providerId, machine.roundTripMs / 2);
      const place: Place = { machine, signer, provider: null, network: null };
      fleet.#places.push(place);
      fleet.#start(place);
    }
    return fleet;
  }

  #start(place: Place): void {
    const deps = { clock: this.#clock, random: this.#random, log: silentLogger };
    const engine = createModelledEngine(deps, place.machine, this.#spent);
    place.network = this.#hub.create(place.signer.providerId);
    place.provider = providerOf(deps, place.network, place.signer, engine);
    place.provider.join(this.#server.addresses()[0]!);
  }

  /** Goes without a word, or after its answers, and comes back with an empty cache. */
  leave(number: number, isSudden: boolean, awayMs: number): void {
    const place = this.#places[number]!;
    const { provider, network } = place;
    if (provider === null || network === null) return;
    place.provider = place.network = null;
    const end = (): void => {
      void provider.close();
      void network.close();
      this.#clock.schedule(awayMs, () => this.#start(place));
    };
    if (!isSudden) return void provider.drain(drainMs).then(end);
    network.cut();
    end();
  }

  async ask({ promptTokens, outputTokens, blocks }: TracedRequest, number: number): Promise<Replayed> {
    const tokenIds = tokensOf(promptTokens, blocks, number);
    const startMs = this.#clock.monotonicMs();
    let [firstMs, lastMs, count] = [0, 0, 0];
    try {
      const seen = await this.#complete(tokenIds, outputTokens, (tokens) => {
        lastMs = this.#clock.monotonicMs();
        if (count === 0) firstMs = lastMs;
        count += tokens;
      });
      if (count !== outputTokens) throw new Error(`${count} tokens came, not ${outputTokens}`);
      const tpotMs = count > 1 ? (lastMs - firstMs) / (count - 1) : null;
      return { error: null, ttftMs: firstMs - startMs, tpotMs, ...seen };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return { error: message, ttftMs: 0, tpotMs: null, promptTokens, cachedTokens: 0 };
    }
  }

  async close(): Promise<void> {
    this.#stop();
    for (const { provider } of this.#places) await provider?.close();
  }
}

/** Token ids that are equal where the recorded blocks are; without blocks nobody shares anything. */
function tokensOf(promptTokens: number, blocks: readonly number[] | null, number: number): number[] {
  return Array.from({ length: promptTokens }, (_, i) => {
    const at = i % traceBlockTokens;
    const block = blocks === null ? number : blocks[(i - at) / traceBlockTokens]!;
    // Two ids say which block it is; the rest is filling.
    return at === 0 ? block % 1_000 : at === 1 ? Math.floor(block / 1_000) : 7;
  });
}

/** Over the gateway's API, as a client sees it; each character of a modelled answer is a token. */
function throughGateway(fetch: (request: Request) => Promise<Response>): Ask {
  return async (prompt, max_tokens, onTokens) => {
    const body = {
      model: modelName,
      prompt,
      max_tokens,
      stream: true,
      stream_options: { include_usage: true },
    };
    const init = {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    };
    const response = await fetch(new Request("http://127.0.0.1/v1/completions", init));
    if (!response.ok) throw new Error(await response.text());
    let usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } } | null = null;
    let isWhole = false;
    // The body is written event by event: none is cut in two here.
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      for (const line of part.split("\n\n")) {
        if (line === "data: [DONE]") isWhole = true;
        if (!line.startsWith("data: {")) continue;
        const chunk = JSON.parse(line.slice("data: ".length));
        if (chunk.error !== undefined) throw new Error(chunk.error.message);
        const text: string = chunk.choices[0]?.text ?? "";
        if (text !== "") onTokens(text.length);
        usage = chunk.usage ?? usage;
      }
    }
    if (!isWhole || usage === null) throw new Error("the answer was cut");
    return {
      promptTokens: usage.prompt_tokens,
      cachedTokens: usage.prompt_tokens_details.cached_tokens,
    };
  };
}
