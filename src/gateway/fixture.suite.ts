/** A gateway without sockets: naive engines behind sessions that only exist in memory. */
import type { Engine } from "../engine/port.ts";
import { createNaiveEngine, naiveDefaults, type NaiveEngineOptions } from "../engine/naive.ts";
import type { ProviderSession, RoundTripFloor } from "../network/session.ts";
import type { Embedded } from "../protocol/embed.ts";
import type { GenerateEvent, GenerateRequest } from "../protocol/generate.ts";
import type { ModelOffer } from "../protocol/offer.ts";
import type { PriceSheet } from "../protocol/price.ts";
import { defaultPolicy } from "../router/policy.ts";
import { MemoryStore } from "../store/memory.ts";
import type { Store } from "../store/port.ts";
import { type Clock, ManualClock, systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import { pour } from "../util/sink.ts";
import { createGateway, type Gateway, type GatewayOptions } from "./index.ts";
import { defaultLimits } from "./options.ts";

export const price: PriceSheet = {
  inputPerMillionTokens: 1_000_000n,
  outputPerMillionTokens: 2_000_000n,
  perSecond: 0n,
};

/** A provider's session, as the gateway sees it, around an engine. */
export class FakeSession implements ProviderSession {
  readonly remoteAddress = "memory";
  roundTripMs: number | null = 1;
  roundTripFloor: RoundTripFloor | null = { ms: 1, samples: 64 };
  estimatedRoundTripMs: number | null = null;
  unansweredMs = 0;
  region = "test";
  readonly providerId: string;
  readonly engine: Engine;
  closed = false;
  requests = 0;
  #changeListeners: (() => void)[] = [];
  #closeListeners: ((reason: string) => void)[] = [];
  readonly #abort = new AbortController();

  constructor(providerId: string, engine: Engine) {
    this.providerId = providerId;
    this.engine = engine;
    engine.onStatus(() => this.changed());
  }

  get offer(): ProviderSession["offer"] {
    const { model, kind } = this.engine;
    return {
      providerId: this.providerId,
      sequence: 1,
      issuedAtMs: 0,
      expiresAtMs: Number.MAX_SAFE_INTEGER,
      region: this.region,
      models: [{ ...model, engine: kind, price }],
    };
  }

  get status(): ProviderSession["status"] {
    const status = this.engine.status();
    const ready = status.state === "ready";
    return { ...this.engine.load(), ready, reason: ready ? "" : status.reason };
  }

  async generate(...[request, signal, sink]: Parameters<ProviderSession["generate"]>): Promise<void> {
    await pour(this.events(request, signal), sink);
  }

  /** What it answers with; tests put lies and failures in its place. */
  events(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent> {
    this.requests += 1;
    if (this.closed) throw new SkeinError("provider_disconnected", "The provider is gone.");
    return this.engine.generate(request, AbortSignal.any([signal, this.#abort.signal]));
  }

  embed(...[request, signal]: Parameters<NonNullable<ProviderSession["embed"]>>): Promise<Embedded> {
    this.requests += 1;
    if (this.closed) throw new SkeinError("provider_disconnected", "The provider is gone.");
    return this.engine.embed!(request, AbortSignal.any([signal, this.#abort.signal]));
  }

  countPromptTokens(
    ...[, prompt, signal]: Parameters<ProviderSession["countPromptTokens"]>
  ): Promise<number> {
    return this.engine.countPromptTokens(prompt, signal);
  }

  changed(): void {
    for (const listener of this.#changeListeners) listener();
  }
  onChange(listener: () => void): void {
    this.#changeListeners.push(listener);
  }
  onClose(listener: (reason: string) => void): void {
    this.#closeListeners.push(listener);
  }
  close(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.#abort.abort(new SkeinError("provider_disconnected", reason));
    for (const listener of this.#closeListeners) listener(reason);
  }
}

/** Lets a provider offer something else from now on. */
export function reoffer(session: FakeSession, change: Partial<ModelOffer>): void {
  const offer = session.offer!;
  const models = offer.models.map((model) => ({ ...model, ...change }));
  Object.defineProperty(session, "offer", { configurable: true, get: () => ({ ...offer, models }) });
  session.changed();
}

/** Simulated time that passes as fast as things happen in it. */
export class PassingTime implements Clock {
  /** For how long this process stood still. */
  stoodMs = 0;
  readonly #manual = new ManualClock();
  #isOver = false;

  constructor() {
    const pass = (): void => {
      if (this.#isOver) return;
      this.#manual.advance(5);
      setImmediate(pass);
    };
    pass();
  }

  nowMs(): number {
    return this.#manual.nowMs();
  }
  monotonicMs(): number {
    return this.#manual.monotonicMs() + this.stoodMs;
  }
  schedule(delayMs: number, callback: () => void): () => void {
    return this.#manual.schedule(delayMs, callback);
  }
  after(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.#manual.schedule(delayMs, resolve));
  }
  end(): void {
    this.#isOver = true;
  }
}

export interface TestGateway {
  readonly gateway: Gateway;
  readonly store: Store;
  /** Adds a provider and waits until it has answered its probe. */
  add(providerId: string, options?: Partial<NaiveEngineOptions>): Promise<FakeSession>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  get(path: string, headers?: Record<string, string>): Promise<Response>;
}

export function testGateway(
  options: Partial<GatewayOptions> = {},
  seed = 1,
  clock: Clock = systemClock,
  store: Store = new MemoryStore(clock),
): TestGateway {
  const gateway = createGateway(
    { clock, random: seededRandom(seed), log: silentLogger, store },
    {
      gatewayId: "gateway",
      version: "0.0.0",
      joinAddresses: () => ["/memory/gateway"],
      join: "open",
      apiKeys: [],
      allowedHosts: [],
      corsOrigins: [],
      cloudPrice: { name: "cloud", inputPerMillionTokens: 10_000_000n, outputPerMillionTokens: 20_000_000n },
      limits: { ...defaultLimits, queueTimeoutMs: 400 },
      // Who is chosen must follow from the test alone.
      cloud: null,
      policy: { ...defaultPolicy, exploreShare: 0 },
      ...options,
    },
  );
  const url = "http://127.0.0.1:4141";
  return {
    gateway,
    store,
    async add(providerId, engineOptions = {}) {
      const engine = createNaiveEngine({ clock }, { ...naiveDefaults, ...engineOptions });
      const session = new FakeSession(providerId, engine);
      gateway.addSession(session);
      for (let i = 0; i < 200 && (session.requests === 0 || engine.load().active > 0); i++) {
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
      session.requests = 0;
      return session;
    },
    post: (path, body, headers = {}) =>
      gateway.fetch(
        new Request(url + path, {
          method: "POST",
          headers: { "content-type": "application/json", ...headers },
          body:
            typeof body === "string" || body instanceof Uint8Array
              ? (body as BodyInit)
              : JSON.stringify(body),
        }),
      ),
    get: (path, headers = {}) => gateway.fetch(new Request(url + path, { headers })),
  };
}

export const question = { model: "naive", messages: [{ role: "user" as const, content: "Which goose?" }] };
