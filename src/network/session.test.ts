/** Sessions end to end, over the memory network and over libp2p. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type GenerateEvent, type GenerateRequest, greedySampling } from "../protocol/generate.ts";
import { encodeFrame } from "../protocol/frames.ts";
import type { Offer } from "../protocol/offer.ts";
import { signOffer } from "../protocol/signing.ts";
import { ManualClock, systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import { acceptProviderSession } from "./gateway-session.ts";
import { createSigner, providerIdOfSeed } from "./identity.ts";
import { createLibp2pNetwork } from "./libp2p.ts";
import { MemoryHub } from "./memory.ts";
import type { Connection, Network } from "./port.ts";
import { openGatewaySession } from "./provider-session.ts";
import {
  creditEvents,
  heartbeatTimeoutMs,
  type JoinPolicy,
  type ProviderSession,
  type RequestHandler,
} from "./session.ts";

const deps = { clock: systemClock, random: seededRandom(1), log: silentLogger };
const gatewaySeed = seededRandom(21).bytes(32);
const providerSeed = seededRandom(22).bytes(32);
const never = new AbortController().signal;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const code = (expected: string) => (error: unknown) => error instanceof SkeinError && error.code === expected;

function requestOf(values: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    requestId: "r",
    modelId: "m",
    prompt: { kind: "text", text: "hello" },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    outputTokensMax: null,
    timeoutMs: 10_000,
    ...values,
  };
}

const timings = { queueMs: 0, prefillMs: 1, decodeMs: 2 };

/** Sends `count` tokens, as fast as they are taken. */
function tokensHandler(
  count: (request: GenerateRequest) => number,
): RequestHandler & { sent: number; cancelled: number } {
  const handler = {
    sent: 0,
    cancelled: 0,
    async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
      yield { type: "start", promptTokens: 3, cachedTokens: 0 };
      const total = count(request);
      try {
        for (let position = 0; position < total; position++) {
          if (signal.aborted) return;
          if (position % 16 === 0) await pause(0);
          handler.sent += 1;
          yield { type: "tokens", position, tokenIds: [position], tokenCount: 1, text: `${position} ` };
        }
        yield { type: "end", finishReason: "stop", promptTokens: 3, outputTokens: total, timings };
      } finally {
        if (signal.aborted) handler.cancelled += 1;
      }
    },
    countPromptTokens: async () => 42,
  };
  return handler;
}

interface Joined {
  readonly gateway: ProviderSession;
  readonly provider: Awaited<ReturnType<typeof openGatewaySession>>;
  readonly connection: Connection;
  readonly close: () => Promise<void>;
}

type MakePair = () => Promise<{ server: Network; client: Network }>;

async function join(
  makePair: MakePair,
  handler: RequestHandler,
  options: { policy?: JoinPolicy; token?: string | null } = {},
): Promise<Joined> {
  const { server, client } = await makePair();
  const accepted = new Promise<ProviderSession>((resolve, reject) => {
    server.onConnection((incoming) => {
      const facts = {
        gatewayId: server.peerId,
        policy: options.policy ?? { kind: "open" as const },
        software: "test",
      };
      acceptProviderSession(deps, incoming, facts).then(resolve, reject);
    });
  });
  accepted.catch(() => undefined);
  const close = async (): Promise<void> => void (await Promise.all([server.close(), client.close()]));
  try {
    const connection = await client.dial(server.addresses()[0]!, AbortSignal.timeout(5000));
    const facts = { providerId: client.peerId, token: options.token ?? null, software: "test" };
    const provider = await openGatewaySession(deps, connection, facts, handler);
    return { gateway: await accepted, provider, connection, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function collect(
  events: AsyncIterable<GenerateEvent>,
): Promise<{ text: string; end: GenerateEvent | undefined }> {
  let text = "";
  let end: GenerateEvent | undefined;
  for await (const event of events) {
    if (event.type === "tokens") text += event.text;
    end = event;
  }
  return { text, end };
}

function offerOf(providerId: string, sequence: number, nowMs = Date.now()): Offer {
  return {
    providerId,
    sequence,
    issuedAtMs: nowMs,
    expiresAtMs: nowMs + 60_000,
    region: `r${sequence}`,
    models: [],
  };
}

async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await pause(10);
  assert.ok(holds(), what);
}

async function memoryPair(): Promise<{ server: Network; client: Network }> {
  const hub = new MemoryHub();
  return {
    server: hub.create(await providerIdOfSeed(gatewaySeed)),
    client: hub.create(await providerIdOfSeed(providerSeed)),
  };
}

async function libp2pPair(): Promise<{ server: Network; client: Network }> {
  const common = { announce: [], lan: false, log: silentLogger };
  return {
    server: await createLibp2pNetwork({ ...common, seed: gatewaySeed, listen: ["/ip4/127.0.0.1/tcp/0"] }),
    client: await createLibp2pNetwork({ ...common, seed: providerSeed, listen: [] }),
  };
}

for (const [name, makePair] of [
  ["memory", memoryPair],
  ["libp2p", libp2pPair],
] as const) {
  describe(`session over ${name}`, () => {
    test("50 requests at once, each with its own answer", async () => {
      const handler = tokensHandler(({ requestId }) => Number(requestId));
      const { gateway, close } = await join(makePair, handler);
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          collect(gateway.generate(requestOf({ requestId: String(i + 1) }), never)),
        ),
      );
      answers.forEach(({ text, end }, i) => {
        assert.equal(text.trim().split(" ").length, i + 1);
        assert.deepEqual(end, {
          type: "end",
          finishReason: "stop",
          promptTokens: 3,
          outputTokens: i + 1,
          timings,
        });
      });
      assert.equal(await gateway.countPromptTokens("m", { kind: "text", text: "x" }, never), 42);
      await close();
    });

    test("a consumer that does not read stops the provider, and loses nothing when it reads on", async () => {
      const handler = tokensHandler(() => 3000);
      const { gateway, close } = await join(makePair, handler);
      const iterator = gateway.generate(requestOf(), never)[Symbol.asyncIterator]();
      await iterator.next();
      await pause(150);
      assert.ok(handler.sent <= creditEvents + 1, `${handler.sent} sent without a reader`);
      let count = 0;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
        if (next.value.type === "tokens") count += 1;
      }
      assert.equal(count, 3000);
      await close();
    });

    test("leaving the loop and aborting cancel at the provider", async () => {
      const handler = tokensHandler(() => 1_000_000);
      const { gateway, close } = await join(makePair, handler);
      for await (const event of gateway.generate(requestOf(), never)) if (event.type === "tokens") break;
      const abort = new AbortController();
      await assert.rejects(async () => {
        for await (const event of gateway.generate(requestOf(), abort.signal))
          if (event.type === "tokens") abort.abort();
      }, code("cancelled"));
      await eventually("both were cancelled", () => handler.cancelled === 2);
      await close();
    });

    test("errors cross with code, message, hint and advice where to try again", async () => {
      const { gateway, close } = await join(makePair, {
        // oxlint-disable-next-line require-yield
        async *generate() {
          throw new SkeinError("context_length_exceeded", "Too long.", {
            hint: "Shorten it.",
            param: "messages",
          });
        },
        countPromptTokens: () => Promise.reject(new TypeError("oops")),
      });
      await assert.rejects(collect(gateway.generate(requestOf(), never)), (error: unknown) => {
        assert.ok(error instanceof SkeinError);
        const { code: got, message, hint, param, retry } = error;
        assert.deepEqual(
          [got, message, hint, param, retry],
          ["context_length_exceeded", "Too long.", "Shorten it.", "messages", "never"],
        );
        return true;
      });
      await assert.rejects(
        gateway.countPromptTokens("m", { kind: "text", text: "" }, never),
        code("provider_failed"),
      );
      await close();
    });

    test("a provider's own deadline is heard of", async () => {
      const { gateway, close } = await join(makePair, {
        async *generate(_, signal): AsyncGenerator<GenerateEvent> {
          yield { type: "start", promptTokens: 1, cachedTokens: 0 };
          await new Promise((_resolve, reject) =>
            signal.addEventListener("abort", () => reject(signal.reason)),
          );
        },
        countPromptTokens: async () => 1,
      });
      await assert.rejects(
        collect(gateway.generate(requestOf({ timeoutMs: 50 }), never)),
        code("deadline_exceeded"),
      );
      await close();
    });

    test("a lost connection fails what is in flight, at both ends", async () => {
      const handler = tokensHandler(() => 1_000_000);
      const { gateway, provider, connection, close } = await join(makePair, handler);
      const answer = collect(gateway.generate(requestOf(), never));
      await eventually("it runs", () => handler.sent > 0);
      connection.close("cable pulled");
      await assert.rejects(answer, code("provider_disconnected"));
      await eventually("both ends know", () => gateway.closed && provider.closed);
      await assert.rejects(collect(gateway.generate(requestOf(), never)), code("provider_disconnected"));
      await eventually("the handler was told", () => handler.cancelled === 1);
      await close();
    });

    test("offers: the newest counts, a forged one ends the session", async () => {
      const { gateway, provider, close } = await join(
        makePair,
        tokensHandler(() => 1),
      );
      const signer = await createSigner(providerSeed);
      provider.sendOffer(await signOffer(signer, offerOf(signer.providerId, 5)));
      provider.sendOffer(await signOffer(signer, offerOf(signer.providerId, 4)));
      provider.sendStatus({ active: 1, queued: 2, ready: true, reason: "" });
      await eventually("status arrived", () => gateway.status.queued === 2);
      await eventually("offer arrived", () => gateway.offer !== null);
      assert.equal(gateway.offer?.sequence, 5);
      const stranger = await createSigner(seededRandom(99).bytes(32));
      provider.sendOffer(await signOffer(stranger, offerOf(stranger.providerId, 6)));
      await eventually("closed", () => gateway.closed && provider.closed);
      await close();
    });

    test("join token and allow-list", async () => {
      const handler = tokensHandler(() => 1);
      const policy = { kind: "restricted", token: "secret", allow: [] } as const;
      for (const token of [null, "wrong"]) {
        await assert.rejects(join(makePair, handler, { policy, token }), code("join_refused"));
      }
      await (await join(makePair, handler, { policy, token: "secret" })).close();
      const listed = {
        kind: "restricted",
        token: null,
        allow: [await providerIdOfSeed(providerSeed)],
      } as const;
      await (await join(makePair, handler, { policy: listed })).close();
      const others = { kind: "restricted", token: null, allow: ["somebody"] } as const;
      await assert.rejects(join(makePair, handler, { policy: others }), code("join_refused"));
      // Our token is for our network: a gateway that does not know it is somebody else's.
      await assert.rejects(
        join(makePair, handler, { policy: { kind: "open" }, token: "secret" }),
        code("join_refused"),
      );
    });
  });
}

test("a provider that breaks the protocol is cut off: garbage, gaps, too many tokens, flood", async () => {
  const lies: ((connection: Connection, stream: number) => void)[] = [
    (connection) => connection.send(Uint8Array.of(250, 1, 2)),
    (connection, stream) =>
      connection.send(
        encodeFrame({ type: "tokens", stream, position: 0, tokenCount: 1, tokenIds: [1], text: "" }),
      ),
    (connection, stream) => {
      connection.send(encodeFrame({ type: "start", stream, body: { promptTokens: 1, cachedTokens: 0 } }));
      connection.send(
        encodeFrame({ type: "tokens", stream, position: 3, tokenCount: 1, tokenIds: [1], text: "" }),
      );
    },
    (connection, stream) => {
      connection.send(encodeFrame({ type: "start", stream, body: { promptTokens: 1, cachedTokens: 0 } }));
      connection.send(
        encodeFrame({ type: "tokens", stream, position: 0, tokenCount: 9, tokenIds: [], text: "" }),
      );
    },
  ];
  for (const lie of lies) {
    const silent: RequestHandler = {
      async *generate(): AsyncGenerator<GenerateEvent> {
        await pause(5_000);
        yield { type: "start", promptTokens: 1, cachedTokens: 0 };
      },
      countPromptTokens: async () => 1,
    };
    const { gateway, connection, close } = await join(memoryPair, silent);
    const answer = collect(gateway.generate(requestOf({ outputTokensMax: 4 }), never));
    lie(connection, 1);
    await assert.rejects(answer, SkeinError);
    await eventually("session closed", () => gateway.closed);
    await close();
  }
});

test("silence ends a session after the heartbeat's timeout, on a clock of the test", async () => {
  const clock = new ManualClock();
  const hub = new MemoryHub();
  const server = hub.create(await providerIdOfSeed(gatewaySeed));
  const client = hub.create(await providerIdOfSeed(providerSeed));
  const manual = { ...deps, clock };
  const accepted = new Promise<ProviderSession>((resolve, reject) => {
    server.onConnection((connection) => {
      acceptProviderSession(manual, connection, {
        gatewayId: server.peerId,
        policy: { kind: "open" },
        software: "t",
      }).then(resolve, reject);
    });
  });
  const connection = await client.dial(server.addresses()[0]!, never);
  const facts = { providerId: client.peerId, token: null, software: "t" };
  await openGatewaySession(
    { ...deps, clock: new ManualClock() },
    connection,
    facts,
    tokensHandler(() => 1),
  );
  const session = await accepted;
  // The provider answers pings: the session lives.
  for (let i = 0; i < 6; i++) {
    clock.advance(1000);
    await pause(5);
  }
  assert.equal(session.closed, false);
  assert.ok(session.roundTripMs !== null);
  // Now it falls silent, as a stopped process does: still connected, but nothing comes.
  connection.onFrame(() => undefined);
  for (let i = 0; i <= heartbeatTimeoutMs / 1000 + 1; i++) {
    clock.advance(1000);
    await pause(5);
  }
  assert.equal(session.closed, true);
  await Promise.all([server.close(), client.close()]);
});
