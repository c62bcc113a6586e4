/** Three providers near a gateway, two far away, and one that is as far but says that it is near, in simulated time. */
import { createNaiveEngine, naiveDefaults } from "../../src/engine/naive.ts";
import type { Gateway } from "../../src/gateway/index.ts";
import { createSigner } from "../../src/network/identity.ts";
import { MemoryHub } from "../../src/network/memory.ts";
import type { ProviderView } from "../../src/protocol/gateway-api.ts";
import type { Provider } from "../../src/provider/index.ts";
import { OwnWhereabouts } from "../../src/router/whereabouts.ts";
import { ManualClock } from "../../src/util/clock.ts";
import { silentLogger } from "../../src/util/log.ts";
import { seededRandom } from "../../src/util/random.ts";
import { openGateway, providerOf } from "./composition.ts";
import { counting, guessing, LyingWhereabouts } from "./deceiving.ts";
import { ask } from "./simulated-client.ts";
import { passUntil, withoutThreads } from "./simulated-time.ts";

const nearMs = 8;
const farMs = 120;
const jitterMs = 4;
const grainMs = 2;
/** More at once than the near ones have slots: the others get what is left. */
const burst = 18;
const bursts = 8;
const burstMs = 2_000;
/** Providers join, are measured, and compared with each other. */
const settleMs = 15_000;
/** The liar comes back now and then, so that nobody has measured it yet. */
const returnMs = 3_000;

const roles = ["near", "near", "near", "far", "far", "liar"] as const;
type Role = (typeof roles)[number];

/** Requests that each provider was given, by what it is. */
export interface Shares {
  readonly near: number;
  /** On average. */
  readonly far: number;
  readonly liar: number;
  /** Of the liar, as the gateway takes it. */
  readonly liarRoundTripMs: number;
  readonly errors: readonly string[];
}

/**
 * @param hint region that requests ask for; null: none
 * @param liarMs one way; far, unless what it says is to be true
 * @param isRestless whether it leaves and comes back again and again
 */
export async function simulateDistances(
  seed: number,
  {
    hint = null,
    liarMs = farMs,
    isRestless = false,
  }: { hint?: string | null; liarMs?: number; isRestless?: boolean },
): Promise<Shares> {
  const release = withoutThreads();
  try {
    return await run(seed, hint, liarMs, isRestless);
  } finally {
    release();
  }
}

async function run(seed: number, hint: string | null, liarMs: number, isRestless: boolean): Promise<Shares> {
  const random = seededRandom(seed);
  const clock = new ManualClock();
  const deps = { clock, random, log: silentLogger };
  const oneWayMs = new Map<string, number>();
  const hub = new MemoryHub({
    clock,
    delayMs: (from, to) => (oneWayMs.get(from) ?? oneWayMs.get(to)!) + jitterMs * random.next(),
  });
  // 1. Everybody joins.
  const gatewayId = (await createSigner(seededRandom(3_000).bytes(32))).providerId;
  const server = hub.create(gatewayId);
  const gateway = openGateway({ ...deps, whereabouts: new OwnWhereabouts({ random }) }, server);
  const given: Record<Role, number> = { near: 0, far: 0, liar: 0 };
  let liarId = "";
  const providers: { provider: Provider; wire: ReturnType<MemoryHub["create"]>; role: Role }[] = [];
  for (const [i, role] of roles.entries()) {
    const signer = await createSigner(seededRandom(3_001 + i).bytes(32));
    oneWayMs.set(signer.providerId, role === "near" ? nearMs : role === "far" ? farMs : liarMs);
    if (role === "liar") liarId = signer.providerId;
    const engine = createNaiveEngine({ clock }, { ...naiveDefaults, answerTokens: 20, msPerToken: 20 });
    const own = role === "liar" ? new LyingWhereabouts({ random }) : new OwnWhereabouts({ random });
    const wire = hub.create(signer.providerId);
    const network = role === "liar" ? guessing(wire, clock) : wire;
    const region = role === "far" ? "away" : "home";
    const provider = providerOf(
      { ...deps, whereabouts: own },
      network,
      signer,
      engine,
      (handler) => counting(handler, () => (given[role] += 1)),
      region,
    );
    provider.join(server.addresses()[0]!);
    providers.push({ provider, wire, role });
  }
  const cut = (): void => {
    for (const { wire, role } of providers) if (role === "liar") wire.cut();
    if (isRestless) clock.schedule(returnMs, cut);
  };
  if (isRestless) clock.schedule(returnMs, cut);
  const startMs = clock.monotonicMs();
  await passUntil(clock, startMs + settleMs, grainMs);
  // 2. Requests, more at a time than the near ones take.
  const body = { model: "naive", ...(hint === null ? {} : { skein: { region: hint } }) };
  const answers = [];
  for (let i = 0; i < bursts * burst; i++) {
    if (i % burst === 0) await passUntil(clock, startMs + settleMs + (i / burst) * burstMs, grainMs);
    const messages = [{ role: "user", content: `goose ${i}` }];
    answers.push(ask(gateway, { ...body, messages }, "whole", 0, async () => undefined));
  }
  const over = new AbortController();
  const all = Promise.all(answers).finally(() => over.abort());
  while (!over.signal.aborted) await passUntil(clock, clock.monotonicMs() + 50, grainMs);
  const liarRoundTripMs = await roundTripMs(gateway, liarId);
  const errors = (await all).flatMap(({ error }) => error ?? []);
  gateway.close();
  for (const { provider } of providers) await provider.close();
  return { ...given, far: given.far / 2, liarRoundTripMs, errors };
}

async function roundTripMs({ fetch }: Gateway, providerId: string): Promise<number> {
  const response = await fetch(new Request("http://127.0.0.1/skein/v1/providers"));
  const { data } = (await response.json()) as { data: ProviderView[] };
  return data.find(({ id }) => id === providerId)?.round_trip_ms ?? Number.NaN;
}
