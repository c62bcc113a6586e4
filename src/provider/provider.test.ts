import assert from "node:assert/strict";
import { test } from "node:test";
import type { Engine, EngineStatus } from "../engine/port.ts";
import type { GatewaySession } from "../network/session.ts";
import type { Offer, ProviderStatus } from "../protocol/offer.ts";
import { freePriceSheet } from "../protocol/price.ts";
import { ManualClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import { createProvider, gatewaysMax } from "./index.ts";
import { offerLifetimeMs, offerRenewalMs } from "./offer.ts";

/** Lets pending promise callbacks run; the manual clock does not. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Time in small steps, between which whatever waits goes on. */
async function pass(clock: ManualClock, byMs: number): Promise<void> {
  for (let passedMs = 0; passedMs < byMs; passedMs += 100) {
    clock.advance(100);
    await settle();
  }
}

function fakeEngine() {
  const listeners = new Set<(status: EngineStatus) => void>();
  let status: EngineStatus = { state: "ready" };
  const load = { active: 0, queued: 0 };
  let closes = 0;
  const engine: Engine = {
    kind: "naive",
    model: {
      modelId: "test:1",
      name: "fake",
      contextTokensMax: 100,
      parallelMax: 2,
      trustTier: "float",
      resumable: true,
    },
    generate: () => {
      throw new SkeinError("engine_failed", "not used here");
    },
    countPromptTokens: async () => 7,
    status: () => status,
    load: () => ({ ...load }),
    onStatus(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      closes += 1;
    },
  };
  return {
    engine,
    load,
    closes: () => closes,
    become(next: EngineStatus) {
      status = next;
      for (const listener of listeners) listener(next);
    },
  };
}

class FakeSession implements GatewaySession {
  readonly remoteAddress = "memory";
  readonly offers: Offer[] = [];
  readonly statuses: ProviderStatus[] = [];
  readonly gatewayId: string;
  closed = false;
  #listeners: ((reason: string) => void)[] = [];

  constructor(gatewayId: string) {
    this.gatewayId = gatewayId;
  }
  sendOffer(envelope: { payload: Uint8Array }): void {
    this.offers.push(offersByPayload.get(envelope.payload)!);
  }
  sendStatus(status: ProviderStatus): void {
    this.statuses.push(status);
  }
  onClose(listener: (reason: string) => void): void {
    this.#listeners.push(listener);
  }
  close(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    for (const listener of this.#listeners) listener(reason);
  }
}

const offersByPayload = new Map<Uint8Array, Offer>();

function setUp(connect: (target: string, attempt: number) => FakeSession, seed = 1) {
  const clock = new ManualClock();
  const fake = fakeEngine();
  const attempts: number[] = [];
  const states: string[] = [];
  const provider = createProvider(
    {
      clock,
      random: seededRandom(seed),
      log: silentLogger,
      sign: async (offer) => {
        const payload = new Uint8Array(1);
        offersByPayload.set(payload, offer);
        return { payload, signature: new Uint8Array(64) };
      },
      connect: async (target) => {
        attempts.push(clock.nowMs());
        return connect(target, attempts.length);
      },
    },
    {
      providerId: "p",
      region: "test",
      served: [{ engine: fake.engine, name: "alias", price: freePriceSheet }],
      onGateway: (_, state) => states.push(state.state),
    },
  );
  return { clock, fake, provider, attempts, states };
}

test("joins, offers under the alias, renews before expiry with rising sequence numbers", async () => {
  const session = new FakeSession("g");
  const { clock, provider } = setUp(() => session);
  provider.join("here");
  await settle();
  assert.deepEqual(provider.gateways(), ["g"]);
  for (let elapsed = 0; elapsed < 2 * offerLifetimeMs; elapsed += offerRenewalMs) {
    clock.advance(offerRenewalMs);
    await settle();
    const newest = session.offers.at(-1)!;
    assert.ok(newest.expiresAtMs > clock.nowMs() + offerRenewalMs, "the offer outlives the next renewal");
  }
  const sequences = session.offers.map((offer) => offer.sequence);
  assert.deepEqual(
    sequences,
    [...new Set(sequences)].sort((a, b) => a - b),
  );
  assert.equal(session.offers[0]?.models[0]?.name, "alias");
  await provider.close();
});

test("reports load and engine trouble when they change, and only then", async () => {
  const session = new FakeSession("g");
  const { clock, fake, provider } = setUp(() => session);
  provider.join("here");
  await settle();
  clock.advance(1000);
  const before = session.statuses.length;
  clock.advance(5000);
  assert.equal(session.statuses.length, before);
  fake.load.active = 2;
  clock.advance(1000);
  assert.equal(session.statuses.at(-1)?.active, 2);
  fake.become({ state: "restarting", reason: "it crashed" });
  assert.deepEqual(session.statuses.at(-1), { active: 2, queued: 0, ready: false, reason: "it crashed" });
  fake.become({ state: "failed", reason: "gone for good" });
  await settle();
  assert.deepEqual(session.offers.at(-1)?.models, []);
  await provider.close();
});

test("comes back after a lost session with growing, bounded pauses", async () => {
  const session = new FakeSession("g");
  const { clock, provider, attempts, states } = setUp((_, attempt) => {
    if (attempt === 1) return session;
    throw new SkeinError("connection_failed", "nobody there");
  });
  provider.join("here");
  await settle();
  session.close("gateway stopped");
  for (let i = 0; i < 600; i++) {
    await settle();
    clock.advance(250);
  }
  await settle();
  const pauses = attempts.slice(1).map((at, i) => at - attempts[i]!);
  assert.ok(attempts.length > 8 && attempts.length < 30, `${attempts.length} attempts in 150 s`);
  assert.ok(
    pauses.every((pause) => pause <= 15_500),
    `pauses ${pauses.join(" ")}`,
  );
  assert.ok(states.includes("waiting"));
  await provider.close();
});

test("providers of a gateway that vanished do not come back in step", async () => {
  const pauses = new Set<number>();
  for (let seed = 1; seed <= 8; seed++) {
    const { clock, provider, attempts } = setUp(() => {
      throw new SkeinError("connection_failed", "nobody there");
    }, seed);
    provider.join("here");
    // Each pause is at least half of what it is at most: 0.5, 1, 2, 4, 8, 15, 15 seconds.
    for (let i = 0; i < 4_000 && attempts.length < 8; i++) {
      await settle();
      clock.advance(10);
    }
    await provider.close();
    [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000].forEach((most, i) => {
      const pause = attempts[i + 1]! - attempts[i]!;
      assert.ok(pause >= most / 2 && pause <= most + 10, `pause ${i} of ${pause} ms`);
    });
    pauses.add(attempts[1]! - attempts[0]!);
  }
  assert.ok(pauses.size >= 5, `${pauses.size} first pauses of 8 differ`);
});

test("knows each gateway once, and not more than the limit", async () => {
  const { provider } = setUp((target) => new FakeSession(target));
  assert.equal(provider.join("a"), true);
  assert.equal(provider.join("a"), false);
  for (let i = 1; i < gatewaysMax; i++) assert.equal(provider.join(`g${i}`), true);
  assert.equal(provider.join("one too many"), false);
  await settle();
  assert.equal(provider.gateways().length, gatewaysMax);
  await provider.close();
  assert.deepEqual(provider.gateways(), []);
});

test("draining withdraws the offer, lets answers end within bounds, and takes no more", async () => {
  const session = new FakeSession("g");
  const { clock, fake, provider } = setUp(() => session);
  provider.join("here");
  await settle();
  fake.load.active = 1;
  let drained = false;
  void provider.drain(5_000).then(() => (drained = true));
  await settle();
  assert.deepEqual(session.offers.at(-1)?.models, []);
  assert.deepEqual(session.statuses.at(-1), { active: 1, queued: 0, ready: false, reason: "it is leaving" });
  clock.advance(1_000);
  await settle();
  assert.equal(drained, false);
  fake.load.active = 0;
  await pass(clock, 300);
  assert.equal(drained, true);
  fake.load.active = 1;
  drained = false;
  void provider.drain(5_000).then(() => (drained = true));
  await settle();
  await pass(clock, 6_000);
  assert.equal(drained, true, "whoever reads too slowly is handed over");
  await provider.close();
});

test("close leaves all gateways, closes the engines once and never reconnects", async () => {
  const session = new FakeSession("g");
  const { clock, fake, provider, attempts } = setUp(() => session);
  provider.join("here");
  await settle();
  await provider.close();
  await provider.close();
  assert.equal(session.closed, true);
  assert.equal(fake.closes(), 1);
  clock.advance(60_000);
  await settle();
  assert.equal(attempts.length, 1);
});

test("a gateway that was heard of is joined once, not while a link connects, and given up when it is gone", async () => {
  let isUp = true;
  const { clock, provider, attempts } = setUp((target) => {
    if (target === "down" || !isUp) throw new SkeinError("connection_failed", "nobody there");
    return new FakeSession("g");
  });
  provider.join("down");
  provider.joinHeardOf("g", "address");
  assert.equal(attempts.length, 1, "the first link still connects, and may be to this very gateway");
  await settle();
  provider.joinHeardOf("g", "address");
  await settle();
  assert.deepEqual(provider.gateways(), ["g"]);
  provider.joinHeardOf("g", "another address");
  await settle();
  assert.deepEqual(provider.gateways(), ["g"]);
  isUp = false;
  provider.joinHeardOf("h", "unreachable");
  await settle();
  clock.advance(10);
  await settle();
  assert.equal(provider.join("unreachable"), true, "it was forgotten, and can be named again");
  await provider.close();
});
