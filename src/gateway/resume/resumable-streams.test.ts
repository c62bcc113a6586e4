/** Clients that lose their connection and come back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { testGateway, question, type TestGateway } from "../fixture.suite.ts";
import { defaultLimits } from "../options.ts";
import { keptBytesMax, Recording } from "./resumable-streams.ts";
import { systemClock } from "../../util/clock.ts";

const resume = { "x-skein-resume": "true" };
const body = { ...question, seed: 3, temperature: 1, stream: true, stream_options: { include_usage: true } };
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Events of a response, as text; at most `count`, then the client hangs up. */
async function read(response: Response, count = Number.POSITIVE_INFINITY): Promise<string[]> {
  assert.equal(response.status, 200);
  const events: string[] = [];
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (events.length < count) {
    const { value, done } = await reader.read();
    if (done) return events;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop()!;
    events.push(...parts);
  }
  await reader.cancel();
  return events.slice(0, count);
}

const dataOf = (events: readonly string[]): string[] => events.map((event) => event.replace(/^id: .*\n/, ""));
const textOf = (events: readonly string[]): string =>
  dataOf(events)
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice(6)).choices[0]?.delta.content ?? "")
    .join("");

async function slowGateway(apiKeys: readonly string[] = []): Promise<TestGateway> {
  const setup = testGateway({ apiKeys, limits: { ...defaultLimits, resumeGraceMs: 150 } });
  await setup.add("p1", { msPerToken: 3 });
  return setup;
}

const eventsOf = (setup: TestGateway, id: string, headers: Record<string, string> = {}): Promise<Response> =>
  setup.get(`/v1/requests/${id}/events`, headers);

test("wherever it was cut, the rest comes, once and charged once", async () => {
  const undisturbed = await (await slowGateway()).post("/v1/chat/completions", body);
  const expected = await read(undisturbed);
  assert.ok(!expected.some((event) => event.includes("id: ")), "ids only for those who ask");
  for (const count of [1, 2, 9, expected.length - 2, expected.length]) {
    const setup = await slowGateway();
    const response = await setup.post("/v1/chat/completions", body, resume);
    assert.equal(response.headers.get("x-skein-resume"), "true");
    const before = await read(response, count);
    const id = response.headers.get("x-request-id")!;
    const last = /^id: (.*)$/m.exec(before.at(-1)!)![1]!;
    // Its opening, the text so far; then the end, the usage and the last word.
    const length = textOf(before).length;
    const closings = count - (expected.length - 2);
    assert.equal(
      last,
      `${id.slice(4)}:${closings < 0 ? length + 1 : closings === 0 ? length + 2 : `${length + 2}.${closings}`}`,
    );
    await pause(20);
    const after = await read(await eventsOf(setup, id, { "last-event-id": last }));
    assert.equal(textOf([...before, ...after]), textOf(expected), `cut after ${count}`);
    const all = textOf(expected).length;
    assert.equal(after.at(-1) ?? before.at(-1), `id: ${id.slice(4)}:${all + 2}.2\ndata: [DONE]`);
    const metrics = await (await setup.get("/metrics")).text();
    assert.match(metrics, /skein_fees_nanousd_total\S* 55\n/);
    assert.match(metrics, /gen_ai_client_operation_duration_seconds_count\S* 1\n/);
    // Again, from the start, after the end.
    assert.equal(textOf(await read(await eventsOf(setup, id))), textOf(expected));
  }
});

test("the official client reads numbered events as any others", async () => {
  const { gateway } = await slowGateway();
  const client = new OpenAI({
    baseURL: "http://127.0.0.1:4141/v1",
    apiKey: "none",
    maxRetries: 0,
    defaultHeaders: resume,
    fetch: (input, init) => gateway.fetch(new Request(input, init)),
  });
  const request = { ...question, seed: 3, temperature: 1 };
  const whole = await client.chat.completions.create(request);
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  assert.equal(text, whole.choices[0]!.message.content);
});

test("only the same API key may; numbers and answers that are none are refused", async () => {
  const setup = await slowGateway(["one", "two"]);
  const as = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });
  const response = await setup.post("/v1/chat/completions", body, { ...resume, ...as("one") });
  const id = response.headers.get("x-request-id")!;
  await read(response, 2);
  assert.equal((await eventsOf(setup, id, as("two"))).status, 404);
  assert.equal((await eventsOf(setup, id)).status, 401);
  assert.equal((await eventsOf(setup, "req_none", as("one"))).status, 404);
  assert.equal((await eventsOf(setup, id, { ...as("one"), "last-event-id": "other:3" })).status, 400);
  assert.equal((await eventsOf(setup, id, { ...as("one"), "last-event-id": "999999" })).status, 404);
  assert.ok((await read(await eventsOf(setup, id, { ...as("one"), "last-event-id": "1" }))).length > 5);
});

test("who asked for nothing, does not come back, or says so, frees the provider", async () => {
  const setup = await slowGateway();
  const session = await setup.add("p2", { msPerToken: 20, modelId: "slow:1", name: "slow" });
  const slow = { ...body, model: "slow" };
  await read(await setup.post("/v1/chat/completions", slow), 2);
  await pause(30);
  assert.equal(session.engine.load().active, 0, "at once");
  await read(await setup.post("/v1/chat/completions", slow, resume), 2);
  await pause(60);
  assert.equal(session.engine.load().active, 1, "it may come back");
  await pause(200);
  assert.equal(session.engine.load().active, 0, "it did not");
  const response = await setup.post("/v1/chat/completions", slow, resume);
  await read(response, 2);
  const path = `/v1/requests/${response.headers.get("x-request-id")}/events`;
  const url = `http://127.0.0.1:4141${path}`;
  assert.equal((await setup.gateway.fetch(new Request(url, { method: "DELETE" }))).status, 204);
  await pause(30);
  assert.equal(session.engine.load().active, 0, "it said that it will not");
});

test("the newest connection reads; the one before ends", async () => {
  const setup = await slowGateway();
  const response = await setup.post("/v1/chat/completions", body, resume);
  const first = read(response);
  const id = response.headers.get("x-request-id")!;
  await pause(20);
  const second = await read(await eventsOf(setup, id));
  assert.equal(second.at(-1)!.endsWith("[DONE]"), true);
  assert.ok((await first).length < second.length);
});

test("what is kept is bounded: read events are dropped, unread ones make the source wait", async () => {
  let made = 0;
  const piece = `data: ${"x".repeat(10_000)}\n\n`;
  const given = { id: "r", owner: "o", abort: new AbortController() };
  const recording = new Recording({ clock: systemClock, graceMs: 60_000 }, given);
  const tell = async (): Promise<void> => {
    for (; made < 1_000; made++) await recording.write(`id: r:${made}\n${piece}`);
    recording.end("");
  };
  void tell();
  await pause(20);
  assert.ok(made * piece.length < 1.1 * keptBytesMax, `${made} events without a reader`);
  const reader = recording.read(null);
  let bytes = 0;
  for (;;) {
    const { value, done } = await reader.next();
    if (done === true) break;
    bytes += value.length;
  }
  assert.ok(bytes > 1_000 * piece.length);
  assert.throws(() => recording.read(null), /is not kept/);
  assert.ok(recording.read("r:995") !== undefined);
});
