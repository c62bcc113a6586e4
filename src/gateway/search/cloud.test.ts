/** The cloud of last resort: only when needed, never for private requests, never beyond the day's money. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createNaiveEngine, naiveDefaults } from "../../engine/naive.ts";
import { ManualClock, systemClock } from "../../util/clock.ts";
import type { CloudOptions } from "./cloud.ts";
import { type BudgetStore, DailyBudget } from "./daily-budget.ts";
import { question, testGateway, type TestGateway } from "../fixture.suite.ts";

const price = { inputPerMillionTokens: 1_000_000n, outputPerMillionTokens: 2_000_000n, perSecond: 0n };

function memoryStore(): BudgetStore {
  let text: string | null = null;
  return { read: () => text, write: (next) => void (text = next) };
}

function withCloud(
  limit: bigint,
  more: Partial<CloudOptions> = {},
): TestGateway & { budget: DailyBudget; engine: ReturnType<typeof createNaiveEngine> } {
  const engine = createNaiveEngine({ clock: systemClock }, { ...naiveDefaults, modelId: "upstream:1" });
  const budget = new DailyBudget(systemClock, memoryStore(), limit);
  const cloud: CloudOptions = {
    engine,
    models: ["naive"],
    price,
    budget,
    lineAbove: null,
    ttftAboveMs: null,
    ...more,
  };
  return { ...testGateway({ cloud }), budget, engine };
}

interface Answer {
  readonly usage?: { fee: { amount: string } };
  readonly skein?: { provider: string; model_id: string };
  readonly error?: { code: string; message: string };
}

async function ask(setup: TestGateway, more: object = {}): Promise<Answer> {
  const body = { ...question, max_tokens: 40, ...more };
  return (await (await setup.post("/v1/chat/completions", body)).json()) as Answer;
}

test("it answers when nobody else does, and says that it was it; its cost counts", async () => {
  const setup = withCloud(1_000_000n);
  const { skein, usage } = await ask(setup);
  assert.deepEqual([skein?.provider, skein?.model_id], ["cloud", "upstream:1"]);
  assert.equal(setup.budget.spentToday, BigInt(usage!.fee.amount));
  await setup.add("p1");
  assert.equal((await ask(setup)).skein?.provider, "p1");
  assert.equal((await ask(setup, { skein: { deny: ["p1"] } })).skein?.provider, "cloud");
});

test("not for private requests, other models, identities, or where hints exclude it", async () => {
  const setup = withCloud(1_000_000n);
  const hidden = (await ask(setup, { skein: { private: true } })).error;
  assert.equal(hidden?.code, "no_provider");
  assert.match(hidden.message, /cloud of last resort is passing prompts on .* skein.private/);
  assert.equal((await ask(setup, { model: "other" })).error?.code, "model_not_found");
  assert.equal((await ask(setup, { model: "upstream:1" })).error?.code, "model_not_found");
  for (const skein of [{ deny: ["cloud"] }, { allow: ["p1"] }, { max_price: { output: "0.001" } }]) {
    assert.equal((await ask(setup, { skein })).error?.code, "no_provider");
  }
  assert.equal(setup.budget.spentToday, 0n);
});

test("its models are listed while nobody else serves them and its upstream answers", async () => {
  const setup = withCloud(1_000_000n);
  const list = async (): Promise<unknown> => {
    const { data } = (await (await setup.get("/v1/models")).json()) as {
      data: { id: string; skein: { providers: number; model_ids: string[] } }[];
    };
    return data.map(({ id, skein }) => [id, skein.providers, ...skein.model_ids]);
  };
  assert.deepEqual(await list(), [["naive", 0, "upstream:1"]]);
  assert.equal((await setup.get("/v1/models/naive")).status, 200);
  setup.engine.become({ state: "restarting", reason: "it does not answer" });
  assert.deepEqual(await list(), []);
  assert.equal((await setup.get("/v1/models/naive")).status, 404);
  assert.match((await ask(setup)).error!.message, /cloud of last resort does not answer/);
  setup.engine.become({ state: "ready" });
  await setup.add("p1");
  assert.deepEqual(await list(), [["naive", 1, "naive:1"]]);
});

test("not beyond the day's money: what a request can cost at most must be left", async () => {
  const setup = withCloud(3_000n);
  let answered = 0;
  while ((await ask(setup)).error === undefined) answered += 1;
  assert.ok(answered > 10, String(answered));
  assert.ok(setup.budget.spentToday <= 3_000n);
  const refused = await setup.post("/v1/chat/completions", { ...question, max_tokens: 40 });
  assert.equal(refused.status, 503);
  assert.match(await refused.text(), /has spent its budget of the day/);
  const seconds = Number(refused.headers.get("retry-after"));
  assert.ok(seconds > 2 && seconds <= 86_400, String(seconds));
  const dear = (await ask(withCloud(10n))).error;
  assert.match(dear!.message, /may spend less in a day than this request could cost/);
  const metrics = await (await setup.get("/metrics")).text();
  assert.match(metrics, new RegExp(`^skein_cloud_spent_nanousd ${setup.budget.spentToday}$`, "m"));
  assert.match(metrics, /^skein_cloud_budget_nanousd 3000$/m);
});

test("sooner, where a predicted first token or the queue is too long", async () => {
  const slow = withCloud(1_000_000n, { ttftAboveMs: 50 });
  await slow.add("p1", { prefillMs: 150 });
  assert.equal((await ask(slow)).skein?.provider, "cloud");
  const full = withCloud(1_000_000n, { lineAbove: 1 });
  await full.add("p1", { parallelMax: 1, msPerToken: 10, answerTokens: 5, queueLengthMax: 0 });
  const answers = await Promise.all(Array.from({ length: 8 }, () => ask(full)));
  const providers = answers.map(({ skein }) => skein?.provider);
  assert.ok(providers.includes("cloud") && providers.includes("p1"), providers.join());
});

test("the budget holds across restarts and begins anew each day", () => {
  const clock = new ManualClock(Date.parse("2026-01-01T20:00:00Z"));
  const store = memoryStore();
  const settle = new DailyBudget(clock, store, 100n).reserve(60n)!;
  const again = new DailyBudget(clock, store, 100n);
  assert.equal(again.spentToday, 60n, "killed before it was settled");
  assert.equal(again.reserve(41n), null);
  settle(10n);
  assert.equal(new DailyBudget(clock, store, 100n).spentToday, 10n);
  settle(0n);
  assert.equal(new DailyBudget(clock, store, 100n).spentToday, 10n, "settled once");
  clock.advance(5 * 3_600_000);
  const tomorrow = new DailyBudget(clock, store, 100n);
  assert.equal(tomorrow.spentToday, 0n);
  assert.notEqual(tomorrow.reserve(100n), null);
  store.write("{}");
  assert.throws(() => new DailyBudget(clock, store, 100n));
});
