/** Providers that join as they should, answer the probe, and then send garbage: clients notice nothing, and it is known who did it. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { createNaiveEngine, naiveDefaults } from "../../src/engine/naive.ts";
import { createSigner } from "../../src/network/identity.ts";
import { createLibp2pNetwork } from "../../src/network/libp2p.ts";
import type { Connection, Network } from "../../src/network/port.ts";
import { openGatewaySession } from "../../src/network/provider-session.ts";
import { encodeFrame } from "../../src/protocol/frames.ts";
import type { GenerateEvent, GenerateRequest } from "../../src/protocol/generate.ts";
import { freePriceSheet } from "../../src/protocol/price.ts";
import { signOffer } from "../../src/protocol/signing.ts";
import { createProvider, type Provider } from "../../src/provider/index.ts";
import { systemClock } from "../../src/util/clock.ts";
import { silentLogger } from "../../src/util/log.ts";
import { systemRandom } from "../../src/util/random.ts";
import { localNetwork } from "./local-network.ts";
import { providersOf, untilAvailable } from "./pool.ts";
import { eventually } from "./processes.ts";
import { watchStream } from "./watch-stream.ts";

const deps = { clock: systemClock, random: systemRandom, log: silentLogger };
const model = "tiny-exact";
const tokens = 60;
const seeds = 3;
let modelId = "";
const local = localNetwork({ exact: 1 }, async ({ url }) => {
  modelId = (await providersOf(url, model))[0]!.models[0]!.model_id;
});
const ask = (seed: number) => watchStream(local.url, { model, seed, max_tokens: tokens });

type Events = AsyncGenerator<GenerateEvent>;
/** What comes behind the `start` of an answer. */
type Garbage = (request: GenerateRequest, connection: Connection) => Events;

const at = (request: GenerateRequest): number => request.emitted.tokenIds.length;
const timings = { queueMs: 0, prefillMs: 0, decodeMs: 0 };
const garbage: Record<string, Garbage> = {
  async *"random bytes"(_, connection) {
    for (let i = 0; i < 20; i++) connection.send(randomBytes(1 + i * 50));
    yield* [];
  },
  async *"a gap"(request) {
    yield { type: "tokens", position: at(request) + 5, tokenIds: [1], tokenCount: 1, text: "garbage" };
  },
  async *"token counts that do not agree"(request) {
    yield { type: "tokens", position: at(request), tokenIds: [1, 2, 3], tokenCount: 1, text: "garbage" };
  },
  async *"more tokens than were asked for"(request) {
    const tokenIds = Array.from({ length: tokens + 1 }, () => 1);
    yield { type: "tokens", position: at(request), tokenIds, tokenCount: tokens + 1, text: "garbage" };
  },
  async *"an end before its time"(request) {
    const outputTokens = at(request);
    yield { type: "end", finishReason: "length", promptTokens: 1, outputTokens, timings };
  },
  async *"tokens of requests that were never sent"(_, connection) {
    for (let stream = 4_000_000; stream < 4_000_050; stream++) {
      const one = { position: 0, tokenCount: 1, tokenIds: [1], text: "garbage" };
      connection.send(encodeFrame({ type: "tokens", stream, ...one }));
    }
    yield* [];
  },
};

interface Hostile {
  readonly provider: Provider;
  readonly network: Network;
  readonly id: string;
  asked: number;
}

async function join(send: Garbage): Promise<Hostile> {
  const seed = systemRandom.bytes(32);
  const signer = await createSigner(seed);
  const network = await createLibp2pNetwork({
    seed,
    listen: [],
    announce: [],
    lan: false,
    log: silentLogger,
  });
  const honest = createNaiveEngine(deps, {
    ...naiveDefaults,
    modelId,
    name: model,
    contextTokensMax: 4_096,
  });
  let connection: Connection | null = null;
  const hostile: Hostile = {
    id: signer.providerId,
    network,
    asked: 0,
    provider: null as unknown as Provider,
  };
  async function* generate(request: GenerateRequest, signal: AbortSignal): Events {
    if (request.requestId === "probe") return yield* honest.generate(request, signal);
    hostile.asked += 1;
    yield { type: "start", promptTokens: 4, cachedTokens: 0 };
    yield* send(request, connection!);
  }
  const served = [{ engine: { ...honest, generate }, name: model, price: freePriceSheet }];
  const provider = createProvider(
    {
      ...deps,
      sign: (offer) => signOffer(signer, offer),
      connect: async (target, handler, signal) => {
        connection = await network.dial(target, signal);
        const facts = { providerId: signer.providerId, token: null, software: "hostile" };
        return openGatewaySession(deps, connection, facts, handler);
      },
    },
    { providerId: signer.providerId, region: "", served },
  );
  provider.join(local.address);
  return Object.assign(hostile, { provider });
}

test("whatever garbage providers send: no error, not a byte altered, and they are put aside", async () => {
  const expected = await Promise.all(Array.from({ length: seeds }, (_, seed) => ask(seed)));
  const hostile = new Map(
    await Promise.all(Object.entries(garbage).map(async ([name, send]) => [name, await join(send)] as const)),
  );
  try {
    await untilAvailable(local.url, model, 1 + hostile.size);
    const allAsked = new AbortController();
    const client = async (number: number): Promise<void> => {
      for (let i = number; !allAsked.signal.aborted; i++) {
        const seen = await ask(i % seeds);
        assert.equal(seen.error, null);
        assert.equal(seen.text, expected[i % seeds]!.text);
      }
    };
    const clients = Promise.all([0, 1, 2, 3, 4, 5].map(client));
    await Promise.race([
      eventually("all of them were asked", async () =>
        [...hostile.values()].every(({ asked }) => asked > 0) ? true : null,
      ),
      clients,
    ]).finally(() => allAsked.abort());
    await clients;
    const metrics = await (await fetch(`${local.url}/metrics`)).text();
    assert.match(metrics, /^skein_attempts_total\{outcome="provider_(?:failed|disconnected)"\} [1-9]/m);
    const views = await providersOf(local.url, model);
    for (const [name, { id }] of hostile) {
      const view = views.find((provider) => provider.id === id);
      assert.ok(view === undefined || view.requests.completed === 0, `${name} was believed`);
    }
  } finally {
    for (const { provider, network } of hostile.values()) {
      await provider.close();
      await network.close();
    }
  }
  assert.equal((await ask(0)).error, null);
});
