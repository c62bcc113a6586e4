import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../util/clock.ts";
import { clientStallMs } from "../options.ts";
import { SseBody, sseData, sseResponse } from "./sse.ts";

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

async function* count(to: number, seen: { at: number; closed: boolean }): AsyncGenerator<string> {
  try {
    for (; seen.at < to; seen.at++) yield sseData({ at: seen.at, filler: "x".repeat(1000) });
  } finally {
    seen.closed = true;
  }
}

test("what is told in one go is one write, and at once", async () => {
  const body = new SseBody(new ManualClock(), new AbortController());
  const writes: string[] = [];
  const write = (text: string): void => void writes.push(text);
  const end = (last: string): void => write(`${last}end`);
  body.begin({ room: 64 * 1024, isFull: false, write, end, cut: () => undefined });
  for (const at of [1, 2, 3]) assert.equal(body.write(sseData({ at })), undefined, "there is room");
  await Promise.resolve();
  assert.deepEqual(writes, ['data: {"at":1}\n\ndata: {"at":2}\n\ndata: {"at":3}\n\n']);
  await body.write(sseData({ at: 4 }));
  body.end(sseData("[DONE]"));
  assert.deepEqual(writes.slice(1), ['data: {"at":4}\n\n', "data: [DONE]\n\nend"]);
});

test("what is ready in one turn of the event loop is one write", async () => {
  const seen = { at: 0, closed: false };
  const body = sseResponse(new ManualClock(), count(10, seen), new AbortController(), {}).body!;
  const writes: string[] = [];
  for await (const chunk of body) writes.push(new TextDecoder().decode(chunk));
  assert.equal(writes.length, 1);
  assert.equal(writes[0]!.match(/^data: /gm)!.length, 10);
  assert.ok(seen.closed);
});

test("a client that takes nothing pauses the source, and is cut after a while", async () => {
  const clock = new ManualClock();
  const seen = { at: 0, closed: false };
  const abort = new AbortController();
  const reader = sseResponse(clock, count(10_000, seen), abort, {}).body!.getReader();
  await settle();
  const pausedAt = seen.at;
  assert.ok(pausedAt > 0 && pausedAt < 100, `${pausedAt} events for nobody`);
  clock.advance(clientStallMs - 1);
  await reader.read();
  await settle();
  assert.ok(seen.at > pausedAt, "reading makes it go on");
  clock.advance(clientStallMs);
  await settle();
  assert.ok(abort.signal.aborted && seen.closed);
  await assert.rejects(async () => {
    for (;;) if ((await reader.read()).done) return;
  }, /read nothing/);
});

test("a client that goes away closes the source at once", async () => {
  const seen = { at: 0, closed: false };
  const abort = new AbortController();
  const reader = sseResponse(new ManualClock(), count(10_000, seen), abort, {}).body!.getReader();
  await reader.read();
  await reader.cancel();
  assert.ok(abort.signal.aborted && seen.closed);
});
