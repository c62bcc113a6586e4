/** Too much work: bounded, fair, and said why. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultPolicy } from "../../router/policy.ts";
import { question, testGateway, type TestGateway } from "../fixture.suite.ts";
import { defaultLimits } from "../options.ts";

const keyOf = (key: string) => ({ authorization: `Bearer ${key}` });
const body = (i: number) => ({ ...question, messages: [{ role: "user", content: `goose ${i}` }] });
const ask = (setup: TestGateway, i: number, headers = {}): Promise<Response> =>
  setup.post("/v1/chat/completions", body(i), headers);

test("one API key's flood does not starve another's request", async () => {
  const setup = testGateway({
    apiKeys: ["flood", "calm"],
    limits: { ...defaultLimits, queueTimeoutMs: 20_000 },
  });
  await setup.add("p1", { parallelMax: 2, msPerToken: 1, answerTokens: 4 });
  const done: string[] = [];
  const tell = (name: string) => async (response: Response) => {
    assert.equal(response.status, 200, await response.text());
    done.push(name);
  };
  const flood = Array.from({ length: 40 }, (_, i) => ask(setup, i, keyOf("flood")).then(tell("flood")));
  await new Promise((resolve) => setTimeout(resolve, 5));
  await ask(setup, 99, keyOf("calm")).then(tell("calm"));
  const before = done.indexOf("calm");
  await Promise.all(flood);
  assert.ok(before < 20, `${before} of the flood were served before it`);
});

test("when time is over it is said how many wait and when to come again", async () => {
  const setup = testGateway({ limits: { ...defaultLimits, queueTimeoutMs: 60 } });
  await setup.add("p1", { parallelMax: 1, msPerToken: 60, answerTokens: 8 });
  await ask(setup, 7);
  const all = await Promise.all(Array.from({ length: 6 }, (_, i) => ask(setup, i)));
  const refused = all.filter(({ status }) => status === 429);
  assert.ok(refused.length >= 3);
  for (const response of refused) {
    assert.match(response.headers.get("retry-after")!, /^\d+$/);
    assert.match(
      await response.text(),
      /The only provider of 'naive' is busy, and (no other requests wait|1 other request waits|\d+ other requests wait)/,
    );
  }
});

test("headroom: new requests leave slots free, and its cost can be seen", async () => {
  const setup = testGateway({
    limits: { ...defaultLimits, queueTimeoutMs: 20_000 },
    policy: { ...defaultPolicy, headroom: 0.5 },
  });
  let most = 0;
  const session = await setup.add("p1", {
    parallelMax: 4,
    msPerToken: 2,
    answerTokens: 4,
    onToken: () => void (most = Math.max(most, session?.engine.load().active ?? 0)),
  });
  const all = await Promise.all(Array.from({ length: 8 }, (_, i) => ask(setup, i)));
  assert.ok(all.every(({ status }) => status === 200));
  assert.equal(most, 2);
  const metrics = await (await setup.get("/metrics")).text();
  assert.match(metrics, /skein_headroom_slots 2/);
  const providers = (await (await setup.get("/skein/v1/providers")).json()) as {
    data: { models: { kept_free: number }[] }[];
  };
  assert.equal(providers.data[0]!.models[0]!.kept_free, 2);
  assert.match(metrics, /skein_headroom_waits_total [1-9]/);
});
