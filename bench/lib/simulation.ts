/**
 * A gateway and providers in one process, over the in-memory network, in simulated time: connections break, providers
 * die, come back, crash, stall, drain and lie, as a seed says. The code is the real one; only time and wires are not.
 */
import { createNaiveEngine, naiveDefaults, type NaiveEngineOptions } from "../../src/engine/naive.ts";
import { createGateway, type Gateway } from "../../src/gateway/index.ts";
import { defaultLimits } from "../../src/gateway/options.ts";
import { acceptProviderSession } from "../../src/network/gateway-session.ts";
import { createSigner, providerIdOfSeed } from "../../src/network/identity.ts";
import { MemoryHub } from "../../src/network/memory.ts";
import { openGatewaySession } from "../../src/network/provider-session.ts";
import type { RequestHandler } from "../../src/network/session.ts";
import type { GenerateEvent, GenerateRequest } from "../../src/protocol/generate.ts";
import { freePriceSheet } from "../../src/protocol/price.ts";
import { type Signer, signOffer } from "../../src/protocol/signing.ts";
import { createProvider, type Provider } from "../../src/provider/index.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { ManualClock } from "../../src/util/clock.ts";
import { silentLogger } from "../../src/util/log.ts";
import { type Random, seededRandom } from "../../src/util/random.ts";
import { defaultPolicy } from "../../src/router/policy.ts";

const providersCount = 4;
const requestsCount = 12;
const answerTokens = 40;
/** Providers join, and are probed, before anything happens. */
const warmUpMs = 1_000;
/** Requests come within this time. */
const arrivalMs = 3_000;
/** Troubles come until then; afterwards everything must end well. */
const troubleMs = 8_000;
const stepMs = 20;
/** No answer takes as long; reaching it is a failure. */
const endMs = 60_000;
const gatewaySeed = seededRandom(1_000).bytes(32);
const software = "simulation";

export interface Simulated {
  readonly errors: readonly string[];
  readonly altered: number;
  readonly miscounted: number;
  readonly attempts: number;
  readonly simulatedMs: number;
}

interface Asked {
  readonly body: Record<string, unknown>;
  readonly atMs: number;
}

interface Answer {
  readonly choices?: { message: { content: string } }[];
  readonly usage?: { completion_tokens: number };
  readonly skein?: { attempts: number };
  readonly error?: { message: string };
}

let computing = 0;
let computed: Promise<unknown> = Promise.resolve();

/**
 * Signatures are computed by other threads, in any order and time. Here they come one after another, and simulated time
 * stands still meanwhile: the same seeds in the same order are the same runs.
 */
function tameCryptography(): () => void {
  const names = ["sign", "verify", "importKey", "exportKey", "digest"] as const;
  for (const name of names) {
    const original = crypto.subtle[name].bind(crypto.subtle) as (...given: unknown[]) => Promise<unknown>;
    const inTurn = (...given: unknown[]): Promise<unknown> => {
      computing += 1;
      const result = computed.then(() => original(...given)).finally(() => (computing -= 1));
      computed = result.catch(() => undefined);
      return result;
    };
    Object.defineProperty(crypto.subtle, name, { value: inTurn, configurable: true });
  }
  return () => {
    for (const name of names) Reflect.deleteProperty(crypto.subtle, name);
  };
}

/** Lets everything run that does not wait for time. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 3; turns = computing > 0 ? 0 : turns + 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export async function simulate(seed: number): Promise<Simulated> {
  const release = tameCryptography();
  try {
    return await run(seed);
  } finally {
    release();
  }
}

async function run(seed: number): Promise<Simulated> {
  const random = seededRandom(seed);
  const asked = Array.from({ length: requestsCount }, () => randomRequest(random));
  const expected: Answer[] = [];
  for (const { body } of asked) expected.push(await undisturbed(body));
  const world = await World.create(random);
  const answers: Promise<Answer>[] = [];
  let open = 0;
  let begun = 0;
  // 1. Time passes; requests and troubles come as the seed says.
  for (; world.elapsedMs < endMs && (begun < asked.length || open > 0); await world.pass(stepMs)) {
    for (const { body } of asked.filter(({ atMs }) => isNow(atMs, world.elapsedMs))) {
      open += 1;
      begun += 1;
      answers[asked.findIndex((other) => other.body === body)] = ask(world.gateway, body).finally(
        () => (open -= 1),
      );
    }
    if (world.elapsedMs < troubleMs && random.next() < 0.08) world.trouble();
  }
  // 2. What did clients see?
  const errors: string[] = open > 0 ? [`${open} requests hang`] : [];
  let altered = 0;
  let miscounted = 0;
  let attempts = 0;
  for (const [i, answer] of (open > 0 ? [] : await Promise.all(answers)).entries()) {
    if (answer.error !== undefined) {
      errors.push(answer.error.message);
      continue;
    }
    const want = expected[i]!;
    if (JSON.stringify(textsOf(answer)) !== JSON.stringify(textsOf(want))) altered += 1;
    if (answer.usage!.completion_tokens !== want.usage!.completion_tokens) miscounted += 1;
    attempts += answer.skein!.attempts;
  }
  const simulatedMs = world.elapsedMs;
  await world.close();
  return { errors, altered, miscounted, attempts, simulatedMs };
}

function isNow(atMs: number, nowMs: number): boolean {
  return atMs >= nowMs && atMs < nowMs + stepMs;
}

function textsOf({ choices }: Answer): string[] {
  return choices!.map(({ message }) => message.content);
}

function randomRequest(random: Random): Asked {
  const number = Math.floor(random.next() * 1e6);
  const stop = random.next() < 0.3 ? { stop: ["flies the", "🪿 "] } : {};
  return {
    atMs: warmUpMs + Math.floor(random.next() * arrivalMs),
    body: {
      model: "naive",
      messages: [{ role: "user", content: `Which goose is number ${number}?` }],
      temperature: 1,
      seed: number,
      n: random.next() < 0.2 ? 2 : 1,
      ...stop,
    },
  };
}

async function ask(gateway: Gateway, body: object): Promise<Answer> {
  const init = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const http = new Request("http://127.0.0.1/v1/chat/completions", init);
  return (await (await gateway.fetch(http)).json()) as Answer;
}

/** The same request where nothing happens. */
async function undisturbed(body: object): Promise<Answer> {
  const world = await World.create(seededRandom(0), 1, 0);
  const answer = ask(world.gateway, body);
  const over = new AbortController();
  void answer.finally(() => over.abort());
  while (!over.signal.aborted) await world.pass(stepMs);
  await world.close();
  return answer;
}

type Lie = "gap" | "early end" | "no end" | "garbled count";
const lies: readonly Lie[] = ["gap", "early end", "no end", "garbled count"];

interface Place {
  readonly signer: Signer;
  provider: Provider | null;
  engine: ReturnType<typeof createNaiveEngine> | null;
  network: ReturnType<MemoryHub["create"]> | null;
  stalled: boolean;
  lie: Lie | null;
}

const signers = new Map<number, Promise<Signer>>();
function signerOf(number: number): Promise<Signer> {
  const made = signers.get(number) ?? createSigner(seededRandom(2_000 + number).bytes(32));
  signers.set(number, made);
  return made;
}
const gatewayIdOnce = providerIdOfSeed(gatewaySeed);

class World {
  readonly clock = new ManualClock();
  readonly gateway: Gateway;
  readonly #random: Random;
  readonly #hub: MemoryHub;
  readonly #server: ReturnType<MemoryHub["create"]>;
  readonly #places: Place[] = [];
  readonly #startMs: number;

  private constructor(random: Random, gatewayId: string, delayMaxMs: number) {
    this.#random = random;
    this.#startMs = this.clock.monotonicMs();
    const { clock } = this;
    this.#hub = new MemoryHub({ clock, delayMs: () => 1 + random.next() * delayMaxMs });
    this.#server = this.#hub.create(gatewayId);
    const deps = { clock, random, log: silentLogger };
    this.gateway = createGateway(
      { ...deps, store: new MemoryStore(clock) },
      {
        gatewayId,
        version: "0.0.0",
        joinAddresses: () => this.#server.addresses(),
        join: "open",
        apiKeys: [],
        allowedHosts: null,
        corsOrigins: [],
        cloudPrice: null,
        policy: defaultPolicy,
        cloud: null,
        limits: { ...defaultLimits, firstTokenTimeoutMs: 6_000, tokenTimeoutMs: 6_000 },
      },
    );
    this.#server.onConnection((connection) => {
      const facts = { gatewayId, policy: { kind: "open" } as const, software };
      acceptProviderSession(deps, connection, facts).then(
        (session) => this.gateway.addSession(session),
        () => undefined,
      );
    });
  }

  static async create(random: Random, count = providersCount, delayMaxMs = 30): Promise<World> {
    const world = new World(random, await gatewayIdOnce, delayMaxMs);
    for (let number = 0; number < count; number++) {
      const signer = await signerOf(number);
      const place = { signer, provider: null, engine: null, network: null, stalled: false, lie: null };
      world.#places.push(place);
      world.#start(place);
    }
    await world.pass(warmUpMs);
    return world;
  }

  get elapsedMs(): number {
    return this.clock.monotonicMs() - this.#startMs;
  }

  async pass(byMs: number): Promise<void> {
    for (let passedMs = 0; passedMs < byMs; passedMs += stepMs) {
      this.clock.advance(stepMs);
      await settle();
    }
  }

  #start(place: Place): void {
    const { clock } = this;
    const options: NaiveEngineOptions = {
      ...naiveDefaults,
      answerTokens,
      msPerToken: 5,
      onToken: () => (place.stalled ? new Promise(() => undefined) : undefined),
    };
    const engine = createNaiveEngine({ clock }, options);
    const network = this.#hub.create(place.signer.providerId);
    const deps = { clock, random: this.#random, log: silentLogger };
    place.engine = engine;
    place.network = network;
    place.provider = createProvider(
      {
        ...deps,
        sign: (offer) => signOffer(place.signer, offer),
        connect: async (target, handler, signal) => {
          const connection = await network.dial(target, signal);
          const facts = { providerId: network.peerId, token: null, software };
          return openGatewaySession(
            deps,
            connection,
            facts,
            lying(handler, () => place.lie),
          );
        },
      },
      {
        providerId: network.peerId,
        region: "",
        served: [{ engine, name: "naive", price: freePriceSheet }],
      },
    );
    place.provider.join(this.#server.addresses()[0]!);
  }

  /** Something happens to somebody; never to the last one that is well. */
  trouble(): void {
    const place = this.#places[1 + Math.floor(this.#random.next() * (this.#places.length - 1))]!;
    const kind = Math.floor(this.#random.next() * 6);
    if (kind === 0) place.network?.cut();
    if (kind === 1) this.#kill(place);
    if (kind === 2) this.#for(place, 600, "stalled", true, false);
    if (kind === 3)
      this.#for(place, 1_000, "lie", lies[Math.floor(this.#random.next() * lies.length)]!, null);
    if (kind === 4) this.#crash(place);
    if (kind === 5) this.#drain(place);
  }

  #for<K extends "stalled" | "lie">(
    place: Place,
    forMs: number,
    what: K,
    value: Place[K],
    after: Place[K],
  ): void {
    place[what] = value;
    this.clock.schedule(forMs, () => (place[what] = after));
  }

  #crash({ engine }: Place): void {
    engine?.become({ state: "restarting", reason: "it crashed" });
    this.clock.schedule(500, () => engine?.become({ state: "ready" }));
  }

  /** Cut off without a word, and started anew. */
  #kill(place: Place): void {
    if (place.provider === null) return;
    place.network!.cut();
    this.#end(place);
  }

  #drain(place: Place): void {
    const { provider } = place;
    if (provider === null) return;
    void provider.drain(300).then(() => {
      if (place.provider === provider) this.#end(place);
    });
  }

  #end(place: Place): void {
    void place.provider!.close();
    void place.network!.close();
    place.provider = null;
    this.clock.schedule(400, () => this.#start(place));
  }

  async close(): Promise<void> {
    this.gateway.close();
    for (const { provider } of this.#places) await provider?.close();
  }
}

/** Answers probes as it should, and begins well. */
function lying(handler: RequestHandler, lieOf: () => Lie | null): RequestHandler {
  async function* generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    const lie = request.requestId === "probe" ? null : lieOf();
    let left = 3;
    for await (const event of handler.generate(request, signal)) {
      if (lie === null || event.type === "start" || left-- > 0) yield event;
      else if (lie === "gap" && event.type === "tokens") yield { ...event, position: event.position + 1 };
      else if (lie === "early end" && event.type === "tokens") return yield endAt(event.position, "length");
      else if (lie === "garbled count" && event.type === "end")
        yield { ...event, outputTokens: event.outputTokens + 7 };
      else if (lie === "no end" && event.type === "end") throw new Error("it forgot how it ends");
      else yield event;
    }
  }
  return { generate, countPromptTokens: (...given) => handler.countPromptTokens(...given) };
}

function endAt(position: number, finishReason: "length"): GenerateEvent {
  const timings = { queueMs: 0, prefillMs: 0, decodeMs: 0 };
  return { type: "end", finishReason, promptTokens: 1, outputTokens: position, timings };
}
