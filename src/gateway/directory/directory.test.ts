import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProviderSession } from "../../network/session.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import type { EngineKind, ModelOffer } from "../../protocol/offer.ts";
import { freePriceSheet } from "../../protocol/price.ts";
import { ManualClock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { silentLogger } from "../../util/log.ts";
import { seededRandom } from "../../util/random.ts";
import type { Sink } from "../../util/sink.ts";
import { occupy } from "../search/choose-provider.ts";
import { Directory } from "./directory.ts";
import { FairShare } from "../search/fair-share.ts";
import { stateOf } from "../answers/views.ts";

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const timings = { queueMs: 0, prefillMs: 0, decodeMs: 0 };

/** A session whose models answer probes, or do not. */
class Provider implements ProviderSession {
  readonly remoteAddress = "memory";
  readonly roundTripMs = 1;
  status: ProviderSession["status"] = { active: 0, queued: 0, ready: true, reason: "" };
  closed = false;
  readonly probes: string[] = [];
  readonly broken = new Map<string, SkeinError | "hangs">();
  readonly providerId: string;
  models: ModelOffer[];
  #change: (() => void)[] = [];
  #close: ((reason: string) => void)[] = [];

  constructor(providerId: string, ...modelIds: string[]) {
    this.providerId = providerId;
    this.models = modelIds.map((modelId) => offer(modelId, "naive"));
  }
  get offer(): ProviderSession["offer"] {
    const { providerId, models } = this;
    return { providerId, sequence: 1, issuedAtMs: 0, expiresAtMs: 9e15, region: "", models };
  }
  async generate(
    { modelId }: GenerateRequest,
    signal: AbortSignal,
    sink: Sink<GenerateEvent>,
  ): Promise<void> {
    this.probes.push(modelId);
    const broken = this.broken.get(modelId);
    if (broken === "hangs") {
      await new Promise((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason as Error)),
      );
    } else if (broken !== undefined) {
      throw broken;
    }
    await sink({ type: "start", promptTokens: 1, cachedTokens: 0 });
    await sink({ type: "end", finishReason: "length", promptTokens: 1, outputTokens: 1, timings });
  }
  async countPromptTokens(): Promise<number> {
    return 1;
  }
  change(): void {
    for (const listener of this.#change) listener();
  }
  onChange(listener: () => void): void {
    this.#change.push(listener);
  }
  onClose(listener: (reason: string) => void): void {
    this.#close.push(listener);
  }
  close(reason: string): void {
    this.closed = true;
    for (const listener of this.#close.splice(0)) listener(reason);
  }
}

function offer(modelId: string, engine: EngineKind): ModelOffer {
  return {
    modelId,
    name: modelId.slice(0, 1),
    engine,
    trustTier: "float",
    contextTokensMax: 100,
    parallelMax: 2,
    resumable: true,
    features: [],
    price: freePriceSheet,
  };
}

const crashed = new SkeinError("engine_failed", "crashed");

async function setUp(...providers: Provider[]) {
  const clock = new ManualClock();
  const directory = new Directory({ clock, random: seededRandom(1), log: silentLogger });
  for (const provider of providers) directory.add(provider);
  await settle();
  const state = (provider: Provider) => stateOf(directory.entryOf(provider.providerId)!).state;
  return { clock, directory, state };
}

test("an offer counts once it answered a real probe", async () => {
  const p = new Provider("p", "a:1");
  p.broken.set("a:1", "hangs");
  const { clock, directory, state } = await setUp(p);
  assert.equal(state(p), "probing");
  assert.deepEqual(directory.candidates("a", null), []);
  assert.equal(directory.wasKnown("a"), false);
  clock.advance(30_000);
  await settle();
  assert.equal(state(p), "cooling");
  p.broken.clear();
  clock.advance(1_000);
  await settle();
  assert.equal(state(p), "available");
  assert.equal(directory.candidates("a", null).length, 1);
  assert.ok(directory.wasKnown("a") && directory.wasKnown("a:1"));
});

test("a full provider is a healthy one, whether it refuses the probe or lets it wait", async () => {
  const refusing = new Provider("refusing", "a:1");
  refusing.broken.set("a:1", new SkeinError("overloaded", "full"));
  const slow = new Provider("slow", "a:1");
  slow.broken.set("a:1", "hangs");
  slow.status = { ...slow.status, active: 2, queued: 3 };
  const { clock, state } = await setUp(refusing, slow);
  assert.equal(state(refusing), "available");
  clock.advance(30_000);
  await settle();
  assert.equal(state(slow), "available");
});

test("failures put aside for longer and longer, with a probe before coming back; an answer ends it", async () => {
  const p = new Provider("p", "a:1");
  const { clock, directory, state } = await setUp(p);
  const entry = directory.entryOf("p")!;
  p.broken.set("a:1", crashed);
  directory.reportFailure(entry, "a:1", crashed);
  const waits: number[] = [];
  for (let seen = p.probes.length, waitedMs = 0; waits.length < 8; waitedMs += 1_000) {
    clock.advance(1_000);
    await settle();
    if (p.probes.length === seen) continue;
    waits.push((waitedMs + 1_000) / 1_000);
    seen = p.probes.length;
    waitedMs = -1_000;
  }
  [1, 2, 4, 8, 16, 32, 60, 60].forEach((pause, i) => {
    assert.ok(waits[i]! <= pause && waits[i]! >= pause * 0.75, `pauses of ${waits.join(" ")} s`);
  });
  assert.equal(directory.candidates("a", null)[0]!.cooling, true, "a last resort");
  directory.reportAnswer(entry, "a:1", { ttftMs: 1, answerMs: 2, outputTokens: 3 });
  assert.equal(state(p), "available");
  directory.reportFailure(entry, "a:1", crashed);
  p.broken.clear();
  clock.advance(1_000);
  await settle();
  assert.equal(state(p), "available", "back to the shortest pause");
});

test("providers that failed together are not probed together", async () => {
  const all = Array.from({ length: 20 }, (_, i) => new Provider(`p${i}`, "a:1"));
  const { clock, directory } = await setUp(...all);
  for (const { providerId } of all) directory.reportFailure(directory.entryOf(providerId)!, "a:1", crashed);
  const probed = (): number => all.filter(({ probes }) => probes.length > 1).length;
  let most = 0;
  for (let i = 0, before = 0; i < 100; i++, before = probed()) {
    clock.advance(10);
    await settle();
    most = Math.max(most, probed() - before);
  }
  assert.equal(probed(), all.length);
  assert.ok(most <= all.length / 4, `${most} of ${all.length} within 10 ms`);
});

test("a provider that had no work for a while is probed again, and available meanwhile", async () => {
  const p = new Provider("p", "a:1");
  const upstream = new Provider("upstream", "a:1");
  upstream.models = [offer("a:1", "openai")];
  const { clock, directory, state } = await setUp(p, upstream);
  const busy = directory.entryOf("p")!;
  clock.advance(25_000);
  await settle();
  directory.reportAnswer(busy, "a:1", { ttftMs: 1, answerMs: 2, outputTokens: 3 });
  clock.advance(25_000);
  await settle();
  assert.equal(p.probes.length, 1, "work is as good as a probe");
  p.broken.set("a:1", "hangs");
  clock.advance(10_000);
  await settle();
  assert.equal(p.probes.length, 2);
  assert.equal(state(p), "available");
  clock.advance(30_000);
  await settle();
  assert.equal(state(p), "cooling");
  assert.equal(upstream.probes.length, 1, "probes of an upstream may cost money");
});

test("one that flaps gets its share back slowly, in a new session too; one that says goodbye is no failure", async () => {
  const { clock, directory } = await setUp();
  const served = (id: string): number => {
    const chosen = Array.from({ length: 400 }, () => directory.candidates("a", null)).filter((all) =>
      all.some(({ providerId, cooling }) => providerId === id && !cooling),
    );
    return chosen.length / 400;
  };
  const come = async (id: string): Promise<Provider> => {
    const p = new Provider(id, "a:1");
    directory.add(p);
    await settle();
    return p;
  };
  for (const id of ["flaps", "leaves"]) {
    for (let i = 0; i < 3; i++) {
      const p = await come(id);
      directory.entryOf(id)!.inFlight = 1;
      if (id === "leaves") p.status = { ...p.status, ready: false, reason: "it is leaving" };
      p.close("gone");
    }
    await come(id);
  }
  assert.equal(served("leaves"), 1);
  const atOnce = served("flaps");
  clock.advance(60_000);
  await settle();
  const later = served("flaps");
  clock.advance(240_000);
  await settle();
  assert.ok(atOnce < 0.4 && later > atOnce + 0.1 && later < 0.9, `${atOnce}, ${later}`);
  assert.equal(served("flaps"), 1);
});

test("one broken model does not take the others of its provider along", async () => {
  const p = new Provider("p", "a:1", "b:1");
  p.broken.set("b:1", crashed);
  const { directory, state } = await setUp(p);
  assert.equal(state(p), "available");
  assert.equal(directory.candidates("a", null)[0]!.cooling, false);
  assert.equal(directory.candidates("b", null)[0]!.cooling, true);
});

test("after its engine was away a model is probed again; an upstream only once", async () => {
  const own = new Provider("own", "a:1");
  const upstream = new Provider("upstream", "a:1");
  upstream.models = [offer("a:1", "openai")];
  const { clock, directory, state } = await setUp(own, upstream);
  for (const p of [own, upstream]) {
    p.status = { ...p.status, ready: false, reason: "restarting" };
    p.change();
    assert.equal(state(p), "not_ready");
    assert.deepEqual(
      directory.candidates("a", null).filter(({ providerId }) => providerId === p.providerId),
      [],
    );
    p.status = { ...p.status, ready: true, reason: "" };
    p.change();
    await settle();
    assert.equal(state(p), "available");
  }
  directory.reportFailure(directory.entryOf("upstream")!, "a:1", crashed);
  clock.advance(1_000);
  await settle();
  assert.equal(state(upstream), "available");
  assert.deepEqual([own.probes.length, upstream.probes.length], [2, 1]);
});

test("leaving and withdrawing: gone at once, known for later, timers stopped", async () => {
  const p = new Provider("p", "a:1", "b:1");
  const { clock, directory } = await setUp(p);
  let changes = 0;
  const off = directory.onChange(() => changes++);
  p.models = p.models.slice(0, 1);
  p.change();
  assert.deepEqual(directory.offersOf("b"), []);
  directory.reportFailure(directory.entryOf("p")!, "a:1", crashed);
  p.close("unplugged");
  assert.deepEqual(directory.entries, []);
  assert.ok(changes >= 2);
  off();
  const probes = p.probes.length;
  clock.advance(120_000);
  await settle();
  assert.equal(p.probes.length, probes);
  assert.ok(directory.wasKnown("a"));
});

test("tokens of a prompt count at its provider until its first token, or its end", async () => {
  const clock = new ManualClock();
  const directory = new Directory({ clock, random: seededRandom(1), log: silentLogger });
  directory.add(new Provider("p", "m"));
  await settle();
  const [candidate] = directory.candidates("m", null);
  const keys = { points: [], promptTokens: 1_000 };
  const chosen = {
    candidate: candidate!,
    owner: "",
    predictedTtftMs: 1,
    keys,
    expectedCachedTokens: 400,
    isBatch: false,
  };
  const share = new FairShare(clock);
  const ahead = (): number => directory.candidates("m", null)[0]!.aheadTokens;
  const [one, two] = [
    occupy({ directory, share, clock }, chosen)!,
    occupy({ directory, share, clock }, chosen)!,
  ];
  assert.equal(ahead(), 1_200);
  one.begun();
  one.begun();
  assert.equal(ahead(), 600);
  one.leave();
  two.leave();
  assert.equal(ahead(), 0);
  directory.close();
});
