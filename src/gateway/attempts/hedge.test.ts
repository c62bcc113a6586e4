/** A first token that is late: somebody else may be faster, nothing is said or charged twice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../../util/errors.ts";
import { question, testGateway, type TestGateway } from "../fixture.suite.ts";
import { HedgeBudget } from "./hedge-budget.ts";

interface Answer {
  readonly choices: { message: { content: string } }[];
  readonly usage: { prompt_tokens: number; completion_tokens: number; fee: { amount: string } };
  readonly skein: { provider: string; attempts: number };
}

/** The preferred provider answers at once until it is told to stall. */
async function setUp(stall: () => Promise<void> | void): Promise<{ setup: TestGateway; ask: typeof ask }> {
  const setup = testGateway();
  let stalls = false;
  const isReal = (id: string): boolean => id !== "probe";
  await setup.add("p1", {
    onToken: ({ requestId }, at) => (stalls && at === 0 && isReal(requestId) ? stall() : undefined),
  });
  let i = 0;
  async function ask(more: object = {}): Promise<Answer> {
    const messages = [{ role: "user", content: `goose ${i++}` }];
    const response = await setup.post("/v1/chat/completions", { ...question, messages, seed: 3, ...more });
    assert.equal(response.status, 200);
    return (await response.json()) as Answer;
  }
  for (let n = 0; n < 20; n++) await ask();
  await setup.add("p2", { prefillMs: 30 });
  stalls = true;
  return { setup, ask };
}

test("a late first token is overtaken; one answer, one charge, the loser cancelled", async () => {
  const { setup, ask } = await setUp(() => new Promise((resolve) => setTimeout(resolve, 1_500)));
  const startMs = performance.now();
  const answer = await ask({ skein: { allow: ["p1", "p2"] } });
  assert.ok(performance.now() - startMs < 1_400, "it did not wait for the late one");
  assert.deepEqual([answer.skein.provider, answer.skein.attempts], ["p2", 1]);
  assert.equal(answer.usage.completion_tokens, 24);
  assert.equal(answer.usage.fee.amount, String(answer.usage.prompt_tokens + 2 * 24));
  const metrics = await (await setup.get("/metrics")).text();
  assert.match(metrics, /skein_hedges_total\{outcome="won"\} 1/);
  const { data } = (await (await setup.get("/skein/v1/providers")).json()) as {
    data: { id: string; state: string }[];
  };
  assert.equal(data.find(({ id }) => id === "p1")!.state, "available", "late is not broken");
  await new Promise((resolve) => setTimeout(resolve, 1_600));
  assert.match(await (await setup.get("/metrics")).text(), /skein_attempts_in_flight 0/);
});

test("the late one fails while the second runs: put aside, the answer is whole", async () => {
  const { setup, ask } = await setUp(async () => {
    await new Promise((resolve) => setTimeout(resolve, 60));
    throw new SkeinError("engine_failed", "crashed");
  });
  const answer = await ask();
  assert.deepEqual([answer.skein.provider, answer.usage.completion_tokens], ["p2", 24]);
  const metrics = await (await setup.get("/metrics")).text();
  assert.match(metrics, /skein_provider_state\{state="cooling"\} 1/);
});

test("the budget keeps second attempts below their share", () => {
  const budget = new HedgeBudget();
  let hedges = 0;
  for (let i = 0; i < 10_000; i++) {
    budget.attempted();
    if (budget.take()) hedges += 1;
  }
  assert.ok(hedges <= 252, String(hedges));
});
