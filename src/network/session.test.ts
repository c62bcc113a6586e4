/** Sessions end to end, over the memory network and over libp2p. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { GenerateEvent, GenerateRequest } from "../protocol/generate.ts";
import { encodeFrame } from "../protocol/frames.ts";
import { signOffer } from "../protocol/signing.ts";
import { ManualClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { seededRandom } from "../util/random.ts";
import {
  eventsOf,
  code,
  collect,
  eventually,
  join,
  libp2pPair,
  memoryPair,
  never,
  offerOf,
  pause,
  providerSeed,
  requestOf,
  timings,
  tokensHandler,
} from "./fixture.suite.ts";
import { createSigner, providerIdOfSeed } from "./identity.ts";
import type { Connection } from "./port.ts";
import { creditEvents, heartbeatTimeoutMs, type RequestHandler, type Whereabouts } from "./session.ts";

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
          collect(eventsOf(gateway, requestOf({ requestId: String(i + 1) }), never)),
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

    test("checkpoints and a receipt come with an answer whose terms ask for one, a trace when it is asked for", async () => {
      const plain = tokensHandler(() => 2);
      const encoded = new Uint8Array(500).fill(7);
      const checkpoint = {
        type: "checkpoint",
        position: 1,
        positions: 4,
        chain: new Uint8Array(32).fill(1),
        signature: new Uint8Array(64).fill(2),
      } as const;
      const handler: RequestHandler = {
        ...plain,
        async *generate(request, signal) {
          for await (const event of plain.generate(request, signal)) {
            if (event.type === "end" && request.terms !== undefined) yield checkpoint;
            if (event.type === "end" && request.requestId === "fails") {
              yield { type: "receipt", encoded };
              throw new SkeinError("engine_failed", "broken");
            }
            yield event;
          }
          if (request.terms !== undefined && request.requestId !== "silent")
            yield { type: "receipt", encoded };
        },
        trace: async ({ tokenIds, position }) => ({
          rows: new Uint8Array(32 * tokenIds.length).fill(3),
          leaves: position === null ? null : new Uint8Array(64).fill(4),
        }),
      };
      const { gateway, close } = await join(makePair, handler);
      const price = { inputPerMillionTokens: 1n, outputPerMillionTokens: 2n ** 59n, perSecond: 0n };
      const terms = {
        tier: "exact",
        price,
        contextTokensMax: 100,
        chargesPrompt: true,
        previous: null,
      } as const;
      const typesOf = async (
        values: Partial<GenerateRequest>,
        events: GenerateEvent[] = [],
      ): Promise<string[]> => {
        for await (const event of eventsOf(gateway, requestOf(values), never)) events.push(event);
        return events.map(({ type }) => type);
      };
      const events: GenerateEvent[] = [];
      assert.deepEqual(await typesOf({ terms }, events), [
        "start",
        "tokens",
        "tokens",
        "checkpoint",
        "end",
        "receipt",
      ]);
      assert.deepEqual(new Uint8Array((events.at(-1) as { encoded: Uint8Array }).encoded), encoded);
      assert.deepEqual(await typesOf({}), ["start", "tokens", "tokens", "end"]);
      const failed: GenerateEvent[] = [];
      await assert.rejects(typesOf({ terms, requestId: "fails" }, failed), code("engine_failed"));
      assert.equal(failed.at(-1)!.type, "receipt");
      // One that never gives its receipt is waited for by whoever wants it.
      const abort = new AbortController();
      const request = requestOf({ terms, requestId: "silent" });
      const silent = eventsOf(gateway, request, abort.signal)[Symbol.asyncIterator]();
      for (let i = 0; i < 5; i++) await silent.next();
      const waiting = silent.next();
      abort.abort();
      await assert.rejects(waiting, code("cancelled"));
      const wish = { modelId: "m", sequence: 1, tokenIds: [1, 2, 3], position: null };
      assert.equal((await gateway.trace!(wish, never)).rows.length, 96);
      assert.equal((await gateway.trace!({ ...wish, position: 2 }, never)).leaves!.length, 64);
      assert.equal(gateway.closed, false);
      await close();
    });

    test("embeddings come as they were made; a provider without them says so, and one that sends others is left", async () => {
      const asked = {
        requestId: "r",
        modelId: "m",
        inputs: [{ kind: "text", text: "a" } as const, { kind: "tokens", tokenIds: [1, 2] } as const],
        dimensions: null,
        timeoutMs: 1_000,
      };
      const embedded = {
        vectors: [new Uint8Array(8).fill(1), new Uint8Array(8)],
        promptTokens: 3,
        durationMs: 7,
      };
      const handler: RequestHandler = {
        ...tokensHandler(() => 1),
        embed: async ({ modelId }) =>
          modelId === "m" ? embedded : { ...embedded, vectors: [new Uint8Array(4)] },
      };
      const { gateway, close } = await join(makePair, handler);
      const { vectors, promptTokens } = await gateway.embed!(asked, never);
      assert.deepEqual(
        vectors.map((vector) => [...vector]),
        embedded.vectors.map((vector) => [...vector]),
      );
      assert.equal(promptTokens, 3);
      await assert.rejects(gateway.embed!({ ...asked, modelId: "other" }, never), code("protocol_violation"));
      await assert.rejects(gateway.embed!({ ...asked, dimensions: 3 }, never), code("protocol_violation"));
      await assert.rejects(gateway.embed!(asked, AbortSignal.abort()), code("cancelled"));
      await close();
      const without = await join(
        makePair,
        tokensHandler(() => 1),
      );
      await assert.rejects(without.gateway.embed!(asked, never), code("invalid_request"));
      await without.close();
    });

    test("a provider that gives no traces says so", async () => {
      const { gateway, close } = await join(
        makePair,
        tokensHandler(() => 1),
      );
      const wish = { modelId: "m", sequence: 1, tokenIds: [1], position: null };
      await assert.rejects(gateway.trace!(wish, never), code("invalid_request"));
      await close();
    });

    test("a consumer that does not read stops the provider, and loses nothing when it reads on", async () => {
      const handler = tokensHandler(() => 3000);
      const { gateway, close } = await join(makePair, handler);
      const iterator = eventsOf(gateway, requestOf(), never)[Symbol.asyncIterator]();
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
      for await (const event of eventsOf(gateway, requestOf(), never)) if (event.type === "tokens") break;
      const abort = new AbortController();
      await assert.rejects(async () => {
        for await (const event of eventsOf(gateway, requestOf(), abort.signal))
          if (event.type === "tokens") abort.abort();
      }, code("cancelled"));
      await eventually("both were cancelled", () => handler.cancelled === 2);
      await close();
    });

    test("what was on its way when it was cancelled, and the receipt of all, are heard a moment later", async () => {
      const plain = tokensHandler(() => 1_000_000);
      let sent = 0;
      const { gateway, close } = await join(makePair, {
        ...plain,
        async *generate(request, signal) {
          for await (const event of plain.generate(request, signal)) {
            yield event;
            if (event.type === "tokens") sent += event.tokenCount;
          }
          yield { type: "receipt", encoded: new Uint8Array(100).fill(1) };
        },
      });
      const price = { inputPerMillionTokens: 1n, outputPerMillionTokens: 1n, perSecond: 0n };
      const terms = {
        tier: "float",
        price,
        contextTokensMax: 100,
        chargesPrompt: true,
        previous: null,
      } as const;
      const abort = new AbortController();
      const late: GenerateEvent[] = [];
      let heard = 0;
      const hear = (event: GenerateEvent): undefined => {
        if (event.type !== "tokens") return;
        heard += event.tokenCount;
        if (heard > 20) abort.abort(new SkeinError("cancelled", "It left."));
      };
      const asking = gateway.generate(requestOf({ terms }), abort.signal, hear, (each) => late.push(each));
      await assert.rejects(asking, code("cancelled"));
      await eventually("the receipt came", () => late.at(-1)?.type === "receipt");
      const behind = late.reduce((sum, event) => sum + (event.type === "tokens" ? event.tokenCount : 0), 0);
      assert.equal(heard + behind, sent);
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
      await assert.rejects(collect(eventsOf(gateway, requestOf(), never)), (error: unknown) => {
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
        collect(eventsOf(gateway, requestOf({ timeoutMs: 50 }), never)),
        code("deadline_exceeded"),
      );
      await close();
    });

    test("a lost connection fails what is in flight, at both ends", async () => {
      const handler = tokensHandler(() => 1_000_000);
      const { gateway, provider, connection, close } = await join(makePair, handler);
      const answer = collect(eventsOf(gateway, requestOf(), never));
      await eventually("it runs", () => handler.sent > 0);
      connection.close("cable pulled");
      await assert.rejects(answer, code("provider_disconnected"));
      await eventually("both ends know", () => gateway.closed && provider.closed);
      await assert.rejects(collect(eventsOf(gateway, requestOf(), never)), code("provider_disconnected"));
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
    const answer = collect(eventsOf(gateway, requestOf({ outputTokensMax: 4 }), never));
    lie(connection, 1);
    await assert.rejects(answer, SkeinError);
    await eventually("session closed", () => gateway.closed);
    await close();
  }
});

test("silence ends a session after the heartbeat's timeout, on a clock of the test", async () => {
  const [clock, providerClock] = [new ManualClock(), new ManualClock()];
  const handler = tokensHandler(() => 1);
  const { gateway, connection, close } = await join(memoryPair, handler, {
    gatewayDeps: { clock },
    providerDeps: { clock: providerClock },
  });
  // The provider answers pings: the session lives.
  for (let i = 0; i < 6; i++) {
    clock.advance(1000);
    await pause(5);
    providerClock.advance(100);
    await pause(5);
  }
  assert.equal(gateway.closed, false);
  assert.ok(gateway.roundTripMs !== null);
  // Now it falls silent, as a stopped process does: still connected, but nothing comes.
  connection.onFrame(() => undefined);
  for (let i = 0; i <= heartbeatTimeoutMs / 1000 + 1; i++) {
    clock.advance(1000);
    await pause(5);
  }
  assert.equal(gateway.closed, true);
  await close();
});

test("both ends tell their coordinates with their pongs, and learn from what they measure", async () => {
  const learnt: [string, string, number, number][] = [];
  const whereaboutsOf = (name: string, x: number): Whereabouts => ({
    coordinate: { positionMs: [x, 0, 0], heightMs: 1, error: 0.5 },
    learn: (peerId, roundTripMs, { positionMs }) =>
      void learnt.push([name, peerId.slice(-4), roundTripMs, positionMs[0]!]),
    estimateMs: (_, { positionMs }) => positionMs[0]!,
    recordOf: () => ({ measurements: 3, contradictions: 1 }),
  });
  const { gateway, provider, close } = await join(
    memoryPair,
    tokensHandler(() => 1),
    {
      gatewayDeps: { whereabouts: whereaboutsOf("gateway", 10) },
      providerDeps: { whereabouts: whereaboutsOf("provider", 20) },
    },
  );
  await eventually("both have measured", () => learnt.length >= 2);
  assert.deepEqual(
    new Set(learnt.map(([name, peer, , told]) => `${name} ${peer} ${told}`)),
    new Set([`gateway ${gateway.providerId.slice(-4)} 20`, `provider ${provider.gatewayId.slice(-4)} 10`]),
  );
  assert.ok(learnt.every(([, , roundTripMs]) => roundTripMs > 0));
  assert.equal(gateway.estimatedRoundTripMs, null, "there is no offer yet");
  const signer = await createSigner(providerSeed);
  const coordinate = { positionMs: [70, 0, 0], heightMs: 1, error: 0.1 };
  provider.sendOffer(await signOffer(signer, { ...offerOf(gateway.providerId, 1), coordinate }));
  await eventually("the offer came", () => gateway.offer !== null);
  assert.equal(gateway.estimatedRoundTripMs, 70);
  assert.deepEqual(gateway.coordinateRecord, { measurements: 3, contradictions: 1 });
  await close();
});
