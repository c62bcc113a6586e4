/** What a client asks of the provider, over the whole path. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../../util/errors.ts";
import { PassingTime, question, reoffer, testGateway, type TestGateway } from "../fixture.suite.ts";
import { defaultLimits } from "../options.ts";

interface Answer {
  readonly skein?: { provider: string };
  readonly error?: { code: string; message: string; param: string };
}

async function ask(setup: TestGateway, skein: object, more: object = {}): Promise<Answer> {
  const response = await setup.post("/v1/chat/completions", { ...question, ...more, skein });
  return (await response.json()) as Answer;
}

async function three(): Promise<TestGateway> {
  const setup = testGateway();
  for (const id of ["p1", "p2", "p3"]) await setup.add(id);
  return setup;
}

test("allow and deny", async () => {
  const setup = await three();
  for (let i = 0; i < 5; i++) {
    assert.equal((await ask(setup, { allow: ["p2"] })).skein?.provider, "p2");
    assert.equal((await ask(setup, { deny: ["p1", "p2"] })).skein?.provider, "p3");
  }
  const { error } = await ask(setup, { deny: ["p1", "p2"], allow: ["p1"] });
  assert.equal(error?.code, "no_provider");
  assert.match(error.message, /2 not in skein.allow, 1 in skein.deny/);
});

test("price, region and time: what none fits is said at once, or when the queue's time is over", async () => {
  const setup = await three();
  assert.equal((await ask(setup, { max_price: { input: "0.001", output: 0.002 } })).error, undefined);
  const dear = await ask(setup, { max_price: { output: "0.001999" } });
  assert.match(dear.error!.message, /3 above skein.max_price/);
  assert.equal((await ask(setup, { region: "test" })).error, undefined);
  assert.match((await ask(setup, { region: "tes" })).error!.message, /another region/);
  assert.equal((await ask(setup, { max_ttft_ms: 5_000 })).error, undefined);
  const long = { messages: [{ role: "user", content: "x".repeat(400_000) }] };
  assert.match((await ask(setup, { max_ttft_ms: 100 }, long)).error!.message, /later than skein.max_ttft_ms/);
});

test("who wants a first token soon waits no longer for a provider that gives it", async () => {
  const clock = new PassingTime();
  const setup = testGateway({ limits: defaultLimits }, 1, clock);
  await setup.add("p1");
  const startMs = clock.monotonicMs();
  const messages = [{ role: "user", content: "x".repeat(400_000) }];
  const { error } = await ask(setup, { max_ttft_ms: 100 }, { messages });
  clock.end();
  assert.equal(error?.code, "no_provider");
  assert.ok(clock.monotonicMs() - startMs < defaultLimits.queueTimeoutMs / 2);
});

test("an answer that has begun goes on wherever it can, however late", async () => {
  const setup = testGateway();
  const onToken = ({ requestId }: { requestId: string }, position: number): void => {
    if (requestId !== "probe" && position === 9) throw new SkeinError("engine_failed", "killed");
  };
  await setup.add("quick", { onToken });
  await setup.add("slow", { prefillMs: 400 });
  const { skein } = await ask(setup, { max_ttft_ms: 200 });
  assert.equal(skein?.provider, "slow");
});

test("private requests go only where the prompt stays on the provider's machine", async () => {
  const setup = testGateway();
  reoffer(await setup.add("p1"), { forwardsPrompts: true });
  const alone = await ask(setup, { private: true });
  assert.equal(alone.error?.code, "no_provider");
  assert.match(alone.error.message, /1 passing prompts on to another server/);
  assert.equal((await ask(setup, { private: false })).skein?.provider, "p1");
  await setup.add("p2", { prefillMs: 50 });
  for (let i = 0; i < 4; i++) assert.equal((await ask(setup, { private: true })).skein?.provider, "p2");
  const quote = await setup.post("/v1/quote", { ...question, skein: { private: true } });
  const { offers } = (await quote.json()) as { offers: { provider: string }[] };
  assert.deepEqual(
    offers.map(({ provider }) => provider),
    ["p2"],
  );
  const { data } = (await (await setup.get("/skein/v1/providers")).json()) as {
    data: { id: string; models: { forwards_prompts: boolean }[] }[];
  };
  assert.deepEqual(
    data.map(({ id, models }) => [id, models[0]!.forwards_prompts]),
    [
      ["p1", true],
      ["p2", false],
    ],
  );
});

test("wrong hints are refused by name", async () => {
  const setup = testGateway();
  const wrong: [object, string][] = [
    [{ max_price: { input: "cheap" } }, "skein.max_price"],
    [{ max_price: 3 }, "skein.max_price"],
    [{ max_ttft_ms: 0 }, "skein.max_ttft_ms"],
    [{ allow: "p1" }, "skein.allow"],
    [{ deny: [1] }, "skein.deny"],
    [{ region: "" }, "skein.region"],
  ];
  for (const [skein, param] of wrong) assert.equal((await ask(setup, skein)).error?.param, param);
});

test("a mistyped hint is named, with what there is", async () => {
  const setup = testGateway();
  const { error } = await ask(setup, { regions: "eu" });
  assert.equal(error?.param, "skein.regions");
  assert.match(error.message, /There is no 'skein.regions'. 'skein' has: .*region, max_price/);
  const price = (await ask(setup, { max_price: { out: "1" } })).error;
  assert.match(price!.message, /There is no 'skein.max_price.out'. 'skein.max_price' must be USD/);
});

test("a conversation stays where its prompt is cached, another API key's does not follow", async () => {
  const setup = await three();
  const content = "tell me about geese ".repeat(20);
  const first = (await ask(setup, {}, { messages: [{ role: "user", content }] })).skein!.provider;
  for (let i = 0; i < 8; i++) {
    const messages = [
      { role: "user", content },
      { role: "assistant", content: "honk" },
      { role: "user", content: `more ${i}` },
    ];
    assert.equal((await ask(setup, {}, { messages })).skein?.provider, first);
  }
});
