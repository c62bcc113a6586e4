/** What a session bounds, and what ends it: peers that send too much, too early, too late or too slowly. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { encodeFrame, type Frame } from "../protocol/frames.ts";
import type { GenerateEvent } from "../protocol/generate.ts";
import { ManualClock } from "../util/clock.ts";
import type { SkeinError } from "../util/errors.ts";
import {
  eventsOf,
  code,
  collect,
  eventually,
  join,
  type Joined,
  libp2pPair,
  memoryPair,
  never,
  pause,
  requestOf,
  timings,
  tokensHandler,
} from "./fixture.suite.ts";
import type { Connection } from "./port.ts";
import { creditBytes, heartbeatTimeoutMs, type RequestHandler } from "./session.ts";

/** Answers nothing by itself; the test speaks in the provider's name. */
const silent: RequestHandler = {
  // oxlint-disable-next-line require-yield
  async *generate(_, signal): AsyncGenerator<GenerateEvent> {
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  },
  countPromptTokens: () => new Promise(() => undefined),
};

const start: Frame = { type: "start", stream: 1, body: { promptTokens: 1, cachedTokens: 0 } };
const end: Extract<Frame, { type: "end" }> = {
  type: "end",
  stream: 1,
  body: { finishReason: "stop", promptTokens: 1, outputTokens: 0, timings },
};
const tokens = (position: number, text: string, stream = 1): Frame => ({
  type: "tokens",
  stream,
  position,
  tokenCount: 1,
  tokenIds: [1],
  text,
});

function send(connection: Connection, ...frames: Frame[]): void {
  for (const frame of frames) connection.send(encodeFrame(frame));
}

/** Why a session ended, told by itself. */
async function reasonOf({ gateway }: Joined): Promise<string> {
  let reason = "";
  gateway.onClose((why) => (reason = why));
  await eventually("session closed", () => gateway.closed);
  return reason;
}

for (const [name, makePair] of [
  ["memory", memoryPair],
  ["libp2p", libp2pPair],
] as const) {
  describe(`limits of a session over ${name}`, () => {
    test("many of the largest requests at once are served or refused, and the session lives", async () => {
      const joined = await join(
        makePair,
        tokensHandler(() => 1),
      );
      const prompt = { kind: "text", text: "x".repeat(3 * 1024 * 1024) } as const;
      const answers = await Promise.allSettled(
        Array.from({ length: 12 }, () => collect(eventsOf(joined.gateway, requestOf({ prompt }), never))),
      );
      const reasons = answers.flatMap((answer) =>
        answer.status === "rejected" ? [(answer.reason as SkeinError).code] : [],
      );
      assert.ok(reasons.length < 12);
      assert.ok(
        reasons.every((reason) => reason === "overloaded"),
        reasons.join(" "),
      );
      assert.equal(joined.gateway.closed, false);
      await joined.close();
    });

    test("a request too large for a frame is refused at once, and nobody waits for it", async () => {
      const joined = await join(
        makePair,
        tokensHandler(() => 1),
      );
      const prompt = { kind: "text", text: "x".repeat(4 * 1024 * 1024) } as const;
      await assert.rejects(
        collect(eventsOf(joined.gateway, requestOf({ prompt }), never)),
        code("request_too_large"),
      );
      await assert.rejects(joined.gateway.countPromptTokens("m", prompt, never), code("request_too_large"));
      await collect(eventsOf(joined.gateway, requestOf(), never));
      await joined.close();
    });

    test("a provider with long pieces waits for its reader too, and nothing is lost", async () => {
      const piece = "x".repeat(creditBytes / 8);
      let sent = 0;
      const joined = await join(makePair, {
        ...silent,
        async *generate(): AsyncGenerator<GenerateEvent> {
          yield { type: "start", promptTokens: 1, cachedTokens: 0 };
          for (; sent < 40; sent++) {
            await pause(0);
            yield { type: "tokens", position: sent, tokenIds: [sent], tokenCount: 1, text: piece };
          }
          yield { type: "end", finishReason: "stop", promptTokens: 1, outputTokens: 40, timings };
        },
      });
      const iterator = eventsOf(joined.gateway, requestOf(), never)[Symbol.asyncIterator]();
      await iterator.next();
      await pause(150);
      assert.ok(sent < 12, `${sent} sent without a reader`);
      let length = 0;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
        if (next.value.type === "tokens") length += next.value.text.length;
      }
      assert.equal(length, 40 * piece.length);
      await joined.close();
    });

    test("an answer too long for a frame fails its request alone", async () => {
      const joined = await join(makePair, {
        ...silent,
        async *generate(): AsyncGenerator<GenerateEvent> {
          yield { type: "start", promptTokens: 1, cachedTokens: 0 };
          const text = "x".repeat(5 * 1024 * 1024);
          yield { type: "tokens", position: 0, tokenIds: [1], tokenCount: 1, text };
        },
      });
      await assert.rejects(collect(eventsOf(joined.gateway, requestOf(), never)), code("protocol_violation"));
      assert.equal(joined.gateway.closed, false);
      await joined.close();
    });
  });
}

test("a frame behind the end of an answer ends the session; the answer itself is delivered", async () => {
  const last: Frame[][] = [
    [start, end, tokens(0, "x")],
    [start, end, end],
    [start, end, { ...start }],
  ];
  for (const frames of last) {
    const joined = await join(memoryPair, silent);
    const answer = collect(eventsOf(joined.gateway, requestOf(), never));
    await pause(5);
    send(joined.connection, ...frames);
    assert.equal((await answer).end?.type, "end");
    assert.match(await reasonOf(joined), /came after the end of request 1/);
    await joined.close();
  }
});

test("the end of an answer that was read already is remembered", async () => {
  const joined = await join(memoryPair, silent);
  const answer = collect(eventsOf(joined.gateway, requestOf(), never));
  await pause(5);
  send(joined.connection, start, end);
  await answer;
  send(joined.connection, tokens(0, "late"));
  assert.match(await reasonOf(joined), /came after the end of request 1/);
  await joined.close();
});

test("a frame for a request that was never sent ends the session; one for a cancelled one does not", async () => {
  const joined = await join(memoryPair, silent);
  const abort = new AbortController();
  const answer = collect(eventsOf(joined.gateway, requestOf(), abort.signal));
  await pause(5);
  abort.abort();
  await assert.rejects(answer, code("cancelled"));
  send(joined.connection, start, tokens(0, "x"), end);
  await pause(20);
  assert.equal(joined.gateway.closed, false);
  send(joined.connection, tokens(0, "x", 2));
  assert.match(await reasonOf(joined), /request 2, which was never sent/);
  await joined.close();
});

test("a provider that ignores the limit of unread bytes is cut off", async () => {
  const joined = await join(memoryPair, silent);
  const iterator = eventsOf(joined.gateway, requestOf(), never)[Symbol.asyncIterator]();
  const first = iterator.next();
  await pause(5);
  send(joined.connection, start);
  await first;
  const text = "x".repeat(1024 * 1024);
  for (let i = 0; i < 8 && !joined.gateway.closed; i++) {
    send(joined.connection, tokens(i, text));
    await pause(5);
  }
  assert.match(await reasonOf(joined), /flow control/);
  await joined.close();
});

test("an end that counts other tokens than those whose ids came ends the session", async () => {
  for (const outputTokens of [0, 2, 500]) {
    const joined = await join(memoryPair, silent);
    const answer = collect(eventsOf(joined.gateway, requestOf(), never));
    await pause(5);
    send(joined.connection, start, tokens(0, "x"), { ...end, body: { ...end.body, outputTokens } });
    await assert.rejects(answer, code("protocol_violation"));
    assert.match(await reasonOf(joined), /where 1 came/);
    await joined.close();
  }
});

test("an engine that fails behind its end does no harm", async () => {
  const joined = await join(memoryPair, {
    ...silent,
    async *generate(): AsyncGenerator<GenerateEvent> {
      yield { type: "start", promptTokens: 1, cachedTokens: 0 };
      yield { type: "end", finishReason: "stop", promptTokens: 1, outputTokens: 0, timings };
      throw new Error("the engine crashed while it cleaned up");
    },
  });
  await collect(eventsOf(joined.gateway, requestOf(), never));
  await pause(20);
  assert.equal(joined.gateway.closed, false);
  await joined.close();
});

test("during the handshake only small frames are taken", async () => {
  const { server, client } = await memoryPair();
  let reason = "";
  server.onConnection((connection) => connection.onClose((why) => (reason = why)));
  const connection = await client.dial(server.addresses()[0]!, never);
  connection.send(new Uint8Array(100_000));
  await eventually("cut off", () => reason !== "");
  assert.match(reason, /too large/);
  await Promise.all([server.close(), client.close()]);
});

test("bytes that arrive are a sign of life, long before their frame is whole", async () => {
  const clock = new ManualClock();
  let activity = (): void => undefined;
  const joined = await join(memoryPair, silent, {
    gatewayDeps: { clock },
    onIncoming: (connection) => (connection.onActivity = (listener) => (activity = listener)),
  });
  joined.connection.onFrame(() => undefined);
  for (let i = 0; i < (3 * heartbeatTimeoutMs) / 1000; i++) {
    activity();
    clock.advance(1000);
    await pause(1);
  }
  assert.equal(joined.gateway.closed, false);
  await joined.close();
});
