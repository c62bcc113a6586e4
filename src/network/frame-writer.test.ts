import assert from "node:assert/strict";
import { test } from "node:test";
import type { Frame } from "../protocol/frames.ts";
import { ManualClock } from "../util/clock.ts";
import { code, requestOf } from "./fixture.suite.ts";
import { flushDelayMs, FrameWriter, pendingBytesMax, pendingRequestBytesMax } from "./frame-writer.ts";
import { type Connection, frameBytesMax } from "./port.ts";

/** Takes `room` frames and then asks to wait until `drain`. */
function fakeConnection(room = Number.POSITIVE_INFINITY) {
  const state = { sent: [] as number[], room, closed: "", drain: () => undefined as void };
  const connection: Connection = {
    peerId: "peer",
    remoteAddress: "memory",
    send(frame) {
      state.sent.push(frame.length);
      return --state.room > 0;
    },
    drained: () => new Promise((resolve) => (state.drain = resolve)),
    onFrame: () => undefined,
    onActivity: () => undefined,
    allowLargeFrames: () => undefined,
    onClose: () => undefined,
    close: (reason = "") => (state.closed = reason),
  };
  return { connection, state };
}

const ping: Frame = { type: "ping", body: { id: 1 } };
const tokens = (text: string): Frame => ({
  type: "tokens",
  stream: 1,
  position: 0,
  tokenCount: 1,
  tokenIds: [1],
  text,
});
const request = (characters: number): Extract<Frame, { type: "generate" }> => ({
  type: "generate",
  stream: 1,
  body: requestOf({ prompt: { kind: "text", text: "x".repeat(characters) } }),
});

test("the first frame goes at once, the next ones together, on the clock it is given", () => {
  const clock = new ManualClock();
  const { connection, state } = fakeConnection();
  const writer = new FrameWriter(clock, connection);
  for (let i = 0; i < 5; i++) writer.write(ping);
  assert.equal(state.sent.length, 1);
  clock.advance(flushDelayMs);
  assert.equal(state.sent.length, 5);
  writer.write(ping);
  writer.write(tokens("a"), "now");
  assert.equal(state.sent.length, 7, "an urgent one takes the rest along");
});

test("a frame that is too large is an error of its sender, and nobody else's", () => {
  const { connection, state } = fakeConnection();
  const writer = new FrameWriter(new ManualClock(), connection);
  assert.throws(() => writer.write(tokens("x".repeat(frameBytesMax))), code("protocol_violation"));
  assert.throws(() => writer.writeRequest(request(frameBytesMax)), code("request_too_large"));
  writer.write(ping);
  assert.equal(state.sent.length, 1);
  assert.equal(state.closed, "");
});

test("to a peer that does not keep up nothing is sent until it does; then everything, in order", async () => {
  const { connection, state } = fakeConnection(1);
  const writer = new FrameWriter(new ManualClock(), connection);
  const sizes = Array.from({ length: 10 }, (_, i) => writer.write(tokens("x".repeat(i)), "now"));
  assert.deepEqual(state.sent, sizes.slice(0, 1));
  state.room = 4;
  state.drain();
  await Promise.resolve();
  assert.deepEqual(state.sent, sizes.slice(0, 5));
  state.room = 100;
  state.drain();
  await Promise.resolve();
  assert.deepEqual(state.sent, sizes);
});

test("what waits is bounded in bytes: first requests are refused, then the peer is cut off", () => {
  const { connection, state } = fakeConnection(1);
  const writer = new FrameWriter(new ManualClock(), connection);
  const half = frameBytesMax / 2;
  writer.write(ping, "now");
  let requests = 0;
  assert.throws(() => {
    for (; requests < 100; requests++) writer.writeRequest(request(half));
  }, code("overloaded"));
  assert.equal(requests, Math.floor(pendingRequestBytesMax / half) - 1);
  assert.equal(state.closed, "");
  for (let i = 0; i < pendingBytesMax / half; i++) writer.write(tokens("x".repeat(half)));
  assert.equal(state.closed, "the peer does not read");
});

test("a goodbye follows what waits, or replaces it when the peer does not keep up", () => {
  for (const [room, expected] of [
    [100, 4],
    [1, 2],
  ] as const) {
    const { connection, state } = fakeConnection(room);
    const writer = new FrameWriter(new ManualClock(), connection);
    for (let i = 0; i < 3; i++) writer.write(ping);
    writer.end({ type: "goodbye", body: { reason: "bye" } });
    writer.write(ping, "now");
    assert.equal(state.sent.length, expected);
  }
});
