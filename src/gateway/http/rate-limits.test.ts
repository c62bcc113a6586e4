import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../util/clock.ts";
import { question, testGateway } from "../fixture.suite.ts";
import { durationText, RateLimits } from "./rate-limits.ts";

const path = "/v1/chat/completions";
const as = (key: string) => ({ authorization: `Bearer ${key}` });

test("nobody is limited and told of limits unless the operator says so", async () => {
  const gateway = testGateway();
  await gateway.add("one");
  const { headers } = await gateway.post(path, question);
  assert.deepEqual(
    [...headers.keys()].filter((name) => name.startsWith("x-ratelimit")),
    [],
  );
  assert.equal(headers.get("openai-version"), "2020-10-01");
  assert.match(headers.get("x-request-id") ?? "", /^req_/);
  assert.match(headers.get("openai-processing-ms") ?? "", /^\d+$/);
});

test("an API key has so many requests a minute; others have their own", async () => {
  const apiKeys = ["key-a", "key-b"];
  const rateLimits = { requestsPerMinute: 2, tokensPerMinute: null };
  const gateway = testGateway({ apiKeys, rateLimits });
  await gateway.add("one");
  const first = await gateway.post(path, question, as("key-a"));
  assert.equal(first.status, 200);
  assert.equal(first.headers.get("x-ratelimit-limit-requests"), "2");
  assert.equal(first.headers.get("x-ratelimit-remaining-requests"), "1");
  assert.match(first.headers.get("x-ratelimit-reset-requests")!, /^(30|29)s$/);
  assert.equal(first.headers.get("x-ratelimit-limit-tokens"), null);
  // Wrong ones count, too.
  assert.equal((await gateway.post(path, {}, as("key-a"))).status, 400);
  const third = await gateway.post(path, question, as("key-a"));
  assert.equal(third.status, 429);
  assert.equal(third.headers.get("x-ratelimit-remaining-requests"), "0");
  assert.ok(Number(third.headers.get("retry-after")) >= 29);
  assert.match(third.headers.get("x-request-id") ?? "", /^req_/);
  const { error } = (await third.json()) as { error: { code: string; type: string; param: null } };
  assert.deepEqual([error.code, error.type, error.param], ["rate_limit_exceeded", "rate_limit_error", null]);
  assert.equal((await gateway.post(path, question, as("key-b"))).status, 200);
  assert.equal((await gateway.get("/v1/models", as("key-a"))).status, 200);
});

test("tokens count when they were used, and streams tell of the limits, too", async () => {
  const gateway = testGateway({ rateLimits: { requestsPerMinute: null, tokensPerMinute: 40 } });
  await gateway.add("one");
  const stream = await gateway.post(path, { ...question, stream: true });
  assert.equal(stream.headers.get("x-ratelimit-remaining-tokens"), "40");
  await stream.text();
  const second = await gateway.post("/v1/embeddings", { model: "naive", input: "a".repeat(400) });
  assert.equal(second.status, 200);
  assert.equal(second.headers.get("x-ratelimit-remaining-tokens"), "0");
  const third = await gateway.post(path, question);
  assert.equal(third.status, 429);
  assert.match(
    ((await third.json()) as { error: { message: string } }).error.message,
    /40 tokens per minute/,
  );
});

test("what was used comes back steadily, a minute's worth at most", () => {
  const clock = new ManualClock();
  const limits = new RateLimits(clock, { requestsPerMinute: 60, tokensPerMinute: 600 });
  const left = async (): Promise<string[]> => {
    const headers = new Map<string, string>();
    const c = {
      req: { method: "POST", path },
      header: (name: string, value: string) => headers.set(name, value),
    };
    await limits
      .middleware(() => "a")(c as never, () => Promise.resolve())
      .catch(() => undefined);
    return [...headers].filter(([name]) => !name.includes("limit-limit")).map(([, value]) => value);
  };
  return (async () => {
    assert.deepEqual(await left(), ["59", "1s", "600", "0ms"]);
    limits.consumed("a", 1_200);
    assert.deepEqual(await left(), ["59", "1s", "0", "2m0s"]);
    clock.advance(30_000);
    assert.deepEqual(await left(), ["60", "0ms", "0", "1m30s"]);
    clock.advance(31_000);
    assert.deepEqual(await left(), ["59", "1s", "10", "59s"]);
    clock.advance(3_600_000);
    assert.deepEqual(await left(), ["59", "1s", "600", "0ms"]);
  })();
});

test("times are written as OpenAI writes them", () => {
  assert.deepEqual([0, 0.2, 20, 999, 1_000, 1_001, 59_000, 60_000, 359_001].map(durationText), [
    "0ms",
    "1ms",
    "20ms",
    "999ms",
    "1s",
    "2s",
    "59s",
    "1m0s",
    "6m0s",
  ]);
});
